"""Size, shape and names: what a reader can hold in the head (CONTRIBUTING.md)."""

import ast
import re

FILE_LINES, PARAMETERS, NESTING = 500, 6, 3
FORBIDDEN_NAMES = re.compile(
    r"^(utils?|helpers?|common|misc|base|manager)$|(_new|_old|_copy|_final|_v?\d+)$"
)
CATCH_ALL_IN = ("payerseg/stagekit/worker.py", "payerseg/cli/app.py")
NESTS = (ast.For, ast.While, ast.If, ast.Try)  # a `with` holds something, it does not branch


def functions(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def depth(node, level=0):
    """Deepest nesting of blocks; an elif does not nest."""
    deepest = level
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef | ast.ClassDef):
                continue
            elif_ = isinstance(node, ast.If) and name == "orelse" and isinstance(child, ast.If)
            nests = isinstance(child, NESTS) and not elif_
            deepest = max(deepest, depth(child, level + nests))
    return deepest


def is_click_command(function):
    """Whether the parameters are a command's options: click passes them by name."""
    return any(
        ".command" in ast.unparse(d) or "_options" in ast.unparse(d)
        for d in function.decorator_list
    )


def test_files_fit_a_head(all_sources):
    long = {str(s.path): s.text.count("\n") for s in all_sources if s.text.count("\n") > FILE_LINES}
    assert not long, f"more than {FILE_LINES} lines: {long}; split by what changes together"


def test_few_parameters(product):
    wrong = []
    for source in product:
        for function in functions(source.tree):
            a = function.args
            names = [x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs]]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > PARAMETERS and not is_click_command(function):
                wrong.append(f"{source.path}:{function.lineno} {function.name} takes {count}")
    assert not wrong, "\n".join(wrong)


def test_no_keyword_bags(product):
    """`**options` is allowed where click calls, and `**kwargs` where Keras' constructors need it."""
    wrong = [
        f"{s.path}:{f.lineno} {f.name}"
        for s in product
        for f in functions(s.tree)
        if f.args.kwarg
        and not (s.room in ("cli", "main_test_overlap_cropped") and f.args.kwarg.arg == "options")
        and not (s.room in ("networks", "training") and f.name == "__init__")
    ]
    assert not wrong, "\n".join(wrong)


def test_shallow_nesting(product):
    deep = [
        f"{s.path}:{f.lineno} {f.name} nests {depth(f)} deep"
        for s in product
        for f in functions(s.tree)
        if depth(f) > NESTING
    ]
    assert not deep, "\n".join(deep)


def test_names_say_something(all_sources):
    wrong = [str(s.path) for s in all_sources if FORBIDDEN_NAMES.search(s.path.stem)]
    assert not wrong, f"a file is named for what it holds: {wrong}"


def test_bugs_are_caught_in_two_places_only(product):
    wrong = []
    for source in product:
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = ast.unparse(node.type) if node.type else "Exception"
            catches_all = {"Exception", "BaseException"} & set(re.findall(r"\w+", names))
            if catches_all and source.path.as_posix() not in CATCH_ALL_IN:
                wrong.append(f"{source.path}:{node.lineno} catches {names}")
    assert not wrong, "\n".join(wrong)


def test_init_files_hold_a_docstring_only(product):
    wrong = [
        str(s.path)
        for s in product
        if s.path.name == "__init__.py"
        and s.module != "payerseg"
        and (len(s.tree.body) != 1 or ast.get_docstring(s.tree) is None)
    ]
    assert not wrong, wrong


def test_every_package_has_an_init(repository):
    missing = [
        str(folder.relative_to(repository))
        for top in ("payerseg", "stages")
        for folder in [repository / top, *(repository / top).rglob("*")]
        if folder.is_dir() and any(folder.glob("*.py")) and not (folder / "__init__.py").is_file()
    ]
    assert not missing, f"no __init__.py in {missing}"
