"""What a person looks at: pictures, findings, pages."""
