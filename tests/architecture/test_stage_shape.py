"""Every stage has one shape: docstring, one class of two steps, the run_stage guard last."""

import ast
import sys


def stages_of(product):
    return [s for s in product if s.room == "stages" and s.path.name != "__init__.py"]


def test_docstring_says_what_it_reads_and_writes(product):
    short = [str(s.path) for s in stages_of(product) if len(ast.get_docstring(s.tree) or "") < 60]
    assert not short, f"no telling module docstring in {short}"


def test_one_class_with_setup_and_case(product):
    for stage in stages_of(product):
        classes = [n for n in stage.tree.body if isinstance(n, ast.ClassDef)]
        assert len(classes) == 1, f"{stage.path}: {len(classes)} classes, expected one"
        methods = {n.name: n for n in classes[0].body if isinstance(n, ast.FunctionDef)}
        assert [a.arg for a in methods["__init__"].args.args] == ["self", "setup"], stage.path
        assert len(methods["__call__"].args.args) == 2, stage.path


def test_last_statement_is_the_guard(product):
    for stage in stages_of(product):
        last = ast.unparse(stage.tree.body[-1])
        assert last.startswith("if __name__ == '__main__':"), stage.path
        assert "raise SystemExit(run_stage(" in last, stage.path


def test_a_stage_only_glues(product):
    wrong = [
        f"{stage.path}:{line} imports {name}"
        for stage in stages_of(product)
        for name, line in stage.imports
        if name.split(".")[0] not in {"payerseg", *sys.stdlib_module_names}
    ]
    assert not wrong, "a stage calls the library, no third party:\n" + "\n".join(wrong)
