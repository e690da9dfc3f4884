"""The laws of docs/architecture.md, and the rules of size, that the source can be searched for."""

from __future__ import annotations

import ast
import statistics

import pytest

DECODERS = {
    "fromhex", "unhexlify", "a2b_hex", "a2b_base64", "b64decode", "b32decode", "b16decode",
    "a85decode", "b85decode", "urlsafe_b64decode", "standard_b64decode", "decodebytes",
}  # fmt: skip
JSON_DECODERS = {"json.load", "json.loads", "json.JSONDecoder"}
MAY_DECODE = {
    "bench": "reads times and counts, and decides nothing",
    "encoding": "is the strict decoder",
    "simulator": "reads what it wrote itself",
    "roots/vendors.py": "decodes only its own constants",
}
CLOCKS = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns",
    "time.gmtime", "time.localtime", "time.clock_gettime",
}  # fmt: skip
MAY_ASK_THE_CLOCK = {
    "bench",
    "cli",
    "client",
    "enclave",
    "endorsements",
    "providers",
    "simulator",
    "testing",
}
EMPTY_CONTAINERS = {
    "dict", "list", "set", "deque", "defaultdict", "OrderedDict", "Counter", "WeakKeyDictionary",
    "WeakValueDictionary", "WeakSet",
}  # fmt: skip
MAX_MODULE, MEDIAN_MODULE, MAX_FUNCTION, MAX_TEST_MODULE = 500, 200, 70, 800


def test_only_the_strict_decoders_decode(modules):
    """Decoding a constant that is written down right there is no decoding of input."""
    found = [
        f"{module.name}:{node.lineno} {ast.unparse(node)}"
        for module in modules
        if module.room not in MAY_DECODE and module.name not in MAY_DECODE
        for node in _without_constants(module.nodes)
        if isinstance(node, ast.Attribute)
        if node.attr in DECODERS or ast.unparse(node) in JSON_DECODERS
    ]
    assert found == []


def _without_constants(nodes: list[ast.AST]) -> list[ast.AST]:
    """The nodes without the functions that are called with nothing but literals."""
    called = {
        node.func
        for node in nodes
        if isinstance(node, ast.Call)
        and node.args
        and all(isinstance(argument, ast.Constant) for argument in node.args)
    }
    return [node for node in nodes if node not in called]


def test_only_the_clock_asks_the_time(modules):
    found = [
        f"{module.name}:{line} {text}"
        for module in modules
        if module.name != "clock.py"
        for text, line in module.attributes()
        if any(text == clock or text.endswith(f".{clock}") for clock in CLOCKS)
    ]
    assert found == []


def test_only_entry_points_ask_the_clock(modules):
    found = [
        module.name
        for module in modules
        if module.room not in MAY_ASK_THE_CLOCK | {"clock.py"}
        if "teeverify.clock.now" in module.imports()
        or any(text == "clock.now" for text, _ in module.attributes())
    ]
    assert found == []


def test_no_assert(modules):
    """Python's -O removes them."""
    found = [
        f"{module.name}:{node.lineno}"
        for module in modules
        for node in module.nodes
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_no_state_in_modules(modules):
    """In the verifier, verified state lives on the object that holds the endorsements (law 13)."""
    found = [
        f"{module.name}:{node.lineno} {ast.unparse(node).splitlines()[0]}"
        for module in modules
        if module.room != "simulator"
        for node in [
            *filter(_is_empty_container, module.nodes[0].body),
            *(node for node in module.nodes if isinstance(node, ast.Global) or _is_cached(node)),
        ]
    ]
    assert found == []


def _is_empty_container(statement: ast.stmt) -> bool:
    """Whether a module starts with a container that only makes sense if something fills it."""
    value = getattr(statement, "value", None)
    if isinstance(value, ast.Call):
        name = ast.unparse(value.func).rpartition(".")[2]
        return name in EMPTY_CONTAINERS and (not value.args or name == "defaultdict")
    return ast.unparse(value) in {"{}", "[]"} if isinstance(value, ast.expr) else False


def _is_cached(node: ast.AST) -> bool:
    calls = (
        decorator.func if isinstance(decorator, ast.Call) else decorator
        for decorator in getattr(node, "decorator_list", ())
    )
    return any(ast.unparse(call).rpartition(".")[2] in {"cache", "lru_cache"} for call in calls)


def test_modules_are_short(modules):
    lengths = {module.name: module.lines for module in modules}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_MODULE} == {}
    assert statistics.median(lengths.values()) <= MEDIAN_MODULE


def test_functions_are_short(modules):
    """Counted without the docstring, which is to be as long as it needs."""
    found = {
        f"{module.name}:{node.lineno} {node.name}": length
        for module in modules
        for node in module.nodes
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (length := _code_lines(node)) > MAX_FUNCTION
    }
    assert found == {}


def _code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
    return node.end_lineno - node.lineno + 1 - docstring


def test_tests_are_short(repository):
    lengths = {
        path.relative_to(repository).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (repository / "tests").rglob("*.py")
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAX_TEST_MODULE} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("_memo = {}", True),
        ("_memo: dict[str, int] = dict()", True),
        ("_memo = weakref.WeakValueDictionary()", True),
        ("_memo = defaultdict(list)", True),
        ("TABLE = {1: 2}", False),
        ("__all__ = ['a']", False),
    ],
)
def test_the_search_for_state_finds_it(source, found):
    assert any(map(_is_empty_container, ast.parse(source).body)) is found
