"""Small faults planted in Python source, each of which a good test turns red.

Theory of operation. A module is parsed, every place where one of the operators below
applies becomes a `Mutant`, and a mutant is one replacement of text, so that what is
shown is what ran. What no behaviour hangs on is left alone: docstrings, annotations,
decorators, `__slots__`, and the prose that persons read (strings with a blank in them,
f-strings, and every string of the modules that word things).

A mutant is known by its content (module, scope, lines before and after), never by a
line number, so that an explanation outlives edits elsewhere in its file.
"""

import ast
import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROSE = frozenset({"counsel", "explain", "wording"})
"""Modules whose strings are texts for persons."""

COMPARED = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: (r"is\s+not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: (r"not\s+in", ("in",)),
}
COUNTED = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.BitOr: (r"\|", "&"),
    ast.BitAnd: ("&", "|"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
Replacement = tuple[int, int, str]


@dataclass(frozen=True)
class Mutant:
    """One fault in one module: `text[start:end]` becomes `new`."""

    module: str
    scope: str
    operator: str
    start: int
    end: int
    new: str
    was: str
    now: str
    """The lines that change, before and after, without their indents."""
    line: int
    lines: range
    """Where it begins, and the lines of the statement, or of its head."""
    at_import: bool
    """Whether it runs when the module is imported, and in no test."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Return what it is known by."""
        return self.module, self.scope, self.was, self.now

    def applied(self, text: str) -> str:
        """Return the module's text with the fault in it."""
        return text[: self.start] + self.new + text[self.end :]

    def diff(self, text: str) -> str:
        """Return the fault as a unified diff."""
        return "\n".join(
            difflib.unified_diff(
                text.splitlines(),
                self.applied(text).splitlines(),
                self.module,
                f"{self.module} ({self.operator} in {self.scope or 'module'})",
                n=1,
                lineterm="",
            )
        )


def mutants_of(module: str, text: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its text."""
    found = {one.applied(text): one for one in Planter(module, text).plant()}
    return sorted(found.values(), key=lambda one: (one.start, one.end, one.new))


class Planter:
    """Walks one module and finds where a fault fits."""

    def __init__(self, module: str, text: str) -> None:
        self.module, self.text = module, text
        self.prose = Path(module).stem in PROSE
        # Columns of the syntax tree count bytes; the texts are cut by characters.
        self.starts, self.rows = [0], text.splitlines(keepends=True)
        for row in self.rows:
            self.starts.append(self.starts[-1] + len(row))

    def plant(self) -> Iterator[Mutant]:
        """Yield every mutant."""
        yield from self._block(ast.parse(self.text).body, "", None)

    def _block(
        self, body: list[ast.stmt], scope: str, function: ast.AST | None
    ) -> Iterator[Mutant]:
        for statement in body:
            yield from self._statement(statement, scope, function)

    def _statement(
        self, one: ast.stmt, scope: str, function: ast.AST | None
    ) -> Iterator[Mutant]:
        if _is_silent(one):
            return
        lines = range(one.lineno, _head_end(one) + 1)
        dropped = self._dropped(one, function)
        heads = (self._expression(part, 0) for part in _head(one))
        for name, cut, lazy in (*dropped, *(item for head in heads for item in head)):
            yield self._mutant(scope, name, cut, lines, function is None and not lazy)
        yield from self._blocks(one, scope, function)

    def _blocks(
        self, one: ast.stmt, scope: str, function: ast.AST | None
    ) -> Iterator[Mutant]:
        """Yield the mutants of the statements inside this one."""
        if isinstance(one, ast.FunctionDef | ast.ClassDef):
            scope = f"{scope}.{one.name}".lstrip(".")
        if isinstance(one, ast.FunctionDef):
            function = one
        for _, body in ast.iter_fields(one):
            for part in body if isinstance(body, list) else []:
                if isinstance(part, ast.stmt):
                    yield from self._statement(part, scope, function)
                elif isinstance(part, ast.match_case | ast.ExceptHandler):
                    yield from self._block(part.body, scope, function)

    def _mutant(
        self, scope: str, name: str, cut: Replacement, lines: range, imported: bool
    ) -> Mutant:
        start, end, new = cut
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", end)
        was = self.text[first:last]
        now = self.text[first:start] + new + self.text[end:last]
        was, now = (
            " ".join(part.strip() for part in side.splitlines()) for side in (was, now)
        )
        line = self.text.count("\n", 0, start) + 1
        return Mutant(
            self.module, scope, name, start, end, new, was, now, line, lines, imported
        )

    # --- statements ---------------------------------------------------------

    def _dropped(
        self, one: ast.stmt, function: ast.AST | None
    ) -> Iterator[tuple[str, Replacement, bool]]:
        start, end = self._span(one)
        if _is_droppable(one, function):
            yield "dropped statement", (start, end, "pass"), False
        if isinstance(one, ast.Return) and one.value is not None:
            value = getattr(one.value, "value", None)
            if not isinstance(one.value, ast.Constant) or isinstance(value, str):
                yield "return value", (start, end, "return None"), False

    # --- expressions --------------------------------------------------------

    def _expression(
        self, node: ast.AST, depth: int
    ) -> Iterator[tuple[str, Replacement, bool]]:
        """Yield (operator, replacement, whether it stands in a lambda)."""
        if isinstance(node, ast.JoinedStr) or _is_typing(node):
            return
        lazy = depth > 0
        for name, cut in self._here(node):
            yield name, cut, lazy
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.arg):
                continue
            inside = isinstance(node, ast.Lambda) and child is node.body
            yield from self._expression(child, depth + inside)

    def _here(self, node: ast.AST) -> Iterator[tuple[str, Replacement]]:
        match node:
            case ast.Compare():
                yield from self._compared(node)
            case ast.BoolOp():
                yield from self._joined(node)
            case ast.BinOp() if type(node.op) in COUNTED:
                was, new = COUNTED[type(node.op)]
                yield "arithmetic", self._between(node.left, node.right, was, new)
            case ast.UnaryOp(op=ast.Not() | ast.USub()):
                start, _ = self._span(node)
                end = start + len(_sign(self.text[start:]))
                yield "negation", (start, end, "")
            case ast.Constant():
                yield from self._constant(node)
            case ast.Call(func=ast.Name(id="replace")):
                yield from self._replaced(node)
            case _:
                pass
        for test in _conditions(node):
            start, end = self._span(test)
            yield "condition", (start, end, f"not ({self.text[start:end]})")

    def _compared(self, node: ast.Compare) -> Iterator[tuple[str, Replacement]]:
        sides = [node.left, *node.comparators]
        for index, operator in enumerate(node.ops):
            was, others = COMPARED[type(operator)]
            for new in others:
                cut = self._between(sides[index], sides[index + 1], was, new)
                yield "comparison", cut

    def _joined(self, node: ast.BoolOp) -> Iterator[tuple[str, Replacement]]:
        was, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            yield "boolean", self._between(left, right, was, new)

    def _constant(self, node: ast.Constant) -> Iterator[tuple[str, Replacement]]:
        start, end = self._span(node)
        value = node.value
        if isinstance(value, bool):
            yield "constant", (start, end, str(not value))
        elif isinstance(value, int | float):
            yield "constant", (start, end, repr(value + 1))
        elif isinstance(value, str) and not self.prose and " " not in value:
            yield "constant", (start, end, json.dumps(f"XX{value}"))

    def _replaced(self, node: ast.Call) -> Iterator[tuple[str, Replacement]]:
        for index, keyword in enumerate(node.keywords):
            start, end = self._span(keyword)
            if index + 1 < len(node.keywords):
                end = self._span(node.keywords[index + 1])[0]
            else:
                before = node.keywords[index - 1] if index else node.args[-1]
                start = self._span(before)[1]
            yield "replace keyword", (start, end, "")

    def _between(
        self, left: ast.expr, right: ast.expr, was: str, new: str
    ) -> Replacement:
        start, end = self._span(left)[1], self._span(right)[0]
        found = re.search(rf"(?<!\w){was}(?!\w)", self.text[start:end])
        assert found is not None, self.text[start:end]
        return start + found.start(), start + found.end(), new

    def _span(self, node: ast.stmt | ast.expr | ast.keyword) -> tuple[int, int]:
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(*_end(node)),
        )

    def _offset(self, line: int, column: int) -> int:
        row = self.rows[line - 1].encode()
        return self.starts[line - 1] + len(row[:column].decode())


def _end(node: ast.stmt | ast.expr | ast.keyword) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _sign(text: str) -> str:
    found = re.match(r"not\s+|-", text)
    # `not(x)` has no blank
    return found.group() if found is not None else "not"


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the conditions of a node that no other operator turns round."""
    tests: list[ast.expr | None] = []
    match node:
        case ast.IfExp():
            tests = [node.test]
        case ast.comprehension():
            tests = list(node.ifs)
        case Condition():
            tests = [node.test]
        case _:
            pass
    for test in tests:
        turned = isinstance(test, ast.Compare) and len(test.ops) == 1
        if test is not None and not turned and not isinstance(test, ast.UnaryOp):
            yield test


class Condition(ast.AST):
    """The test of an `if`, a `while` or a `case`."""

    _fields = ("test",)

    def __init__(self, test: ast.expr) -> None:
        super().__init__()
        self.test = test


def _head(one: ast.stmt) -> Iterator[ast.AST]:
    """Yield the expressions of a statement that are not statements of their own."""
    match one:
        case ast.If() | ast.While():
            yield Condition(one.test)
        case ast.For():
            yield one.iter
        case ast.Match():
            yield one.subject
            for case in one.cases:
                yield case.pattern
                yield from [Condition(case.guard)] if case.guard is not None else []
        case ast.FunctionDef():
            yield from one.args.defaults
            yield from (each for each in one.args.kw_defaults if each is not None)
        case ast.AnnAssign():
            yield from [one.value] if one.value is not None else []
        case _:
            parts = () if _is_declaration(one) else ast.iter_child_nodes(one)
            yield from (part for part in parts if not isinstance(part, ast.stmt))


def _is_declaration(one: ast.stmt) -> bool:
    """Whether it names things and computes nothing."""
    return isinstance(one, ast.ClassDef | ast.Import | ast.ImportFrom) or (
        isinstance(one, ast.Assign) and _is_alias(one)
    )


def _head_end(one: ast.stmt) -> int:
    """Return the last line of a statement, or of what stands before its block."""
    body = getattr(one, "body", None) or getattr(one, "cases", None)
    if not body or isinstance(one, ast.Match):
        return one.end_lineno or one.lineno
    first: int = getattr(body[0], "lineno", one.lineno)
    return max(one.lineno, first - 1)


def _is_silent(one: ast.stmt) -> bool:
    """Whether no behaviour hangs on it: a docstring, `__slots__`, an `assert_never`."""
    match one:
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):
            return True
        case ast.Assign(targets=[ast.Name(id="__slots__" | "__all__")]):
            return True
        case _:
            return False


def _is_alias(one: ast.Assign) -> bool:
    """Whether it names a type: `Fact = str | int`."""
    node: ast.expr = one.value
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        node = node.left
        if isinstance(node, ast.Name) and node.id[:1].isupper():
            return True
    return isinstance(node, ast.Name) and node.id in {"str", "int", "float", "bool"}


def _is_typing(node: ast.AST) -> bool:
    """Whether it speaks to the type checker only."""
    match node:
        case ast.Call(func=ast.Name(id="cast" | "NewType" | "TypeVar")):
            return True
        case _:
            return False


def _is_droppable(one: ast.stmt, function: ast.AST | None) -> bool:
    """Whether the module still runs without it, with something left undone."""
    match one:
        case ast.Expr() | ast.AugAssign() | ast.Raise() | ast.Continue() | ast.Break():
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Delete():
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) if function is not None:
            return _bindings(function, name) > 1
        case _:
            return False


def _bindings(function: ast.AST, name: str) -> int:
    """Count where a function gives a name a value; its parameters are such places."""
    bound = 0
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound += node.id == name
        elif isinstance(node, ast.arg):
            bound += node.arg == name
    return bound
