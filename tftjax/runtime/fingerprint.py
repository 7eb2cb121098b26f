"""A fingerprint of functions as they are in memory: their code, the values that they use, and so on down.

Where a file's text would not show a function that was changed at run time, or a value that it closes over,
this does. Libraries are told apart by their versions; of them only what the code names is looked at, and not
what that calls.
"""

import collections
import dis
import functools
import hashlib
import inspect
import logging
import random
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import date
from pathlib import PurePath
from typing import Any

import jax
import numpy as np

PACKAGES = {"absl", "annotated_types", "beartype", "flax", "jax", "jaxlib", "jaxtyping", "numpy", "optax"}
PACKAGES |= {"pydantic", "pydantic_core", "scipy"}
CHECKERS = {"beartype", "jaxtyping"}  # of types: what they wrap computes the same without them
LIBRARIES = sys.stdlib_module_names | PACKAGES
# Of a class: where it stands, what it is for, and what Python makes of the rest.
_NO_PART = frozenset(
    """__doc__ __module__ __annotations__ __annotate__ __annotate_func__ __annotations_cache__ __dict__
    __weakref__ __slots__ __firstlineno__ __static_attributes__ __dataclass_fields__ __dataclass_params__
    _abc_impl""".split()  # noqa: SIM905
)
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), date, np.generic, np.dtype)
_DESCRIPTORS = (
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
    type(types.SimpleNamespace.__repr__),
    type(dict.get),
    type(collections.namedtuple("_One", "field").field),
)
_WITH_HIDDEN_STATE = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)
_HAS_DOCSTRING = 0x4000000  # a flag of code from Python 3.14 on
_Look = tuple[tuple[Any, ...], tuple[Any, ...]]


class Opaque(TypeError):
    """A value that cannot be told from another by what it holds."""


def fingerprint(*values: Any) -> str:
    """The sha256 of values, and of the code of functions and classes among them, as hexadecimal digits.

    Raises:
      Opaque: a value without parts that can be looked at, such as a lock.
    """
    return walk(*values)[0]


def walk(*values: Any) -> tuple[str, set[types.CodeType]]:
    """The fingerprint of values, and all code that it is of."""
    digest, code = hashlib.sha256(), set()
    seen: dict[int, tuple[int, Any]] = {}  # numbered as met; held, so that an id stays its value's own

    def visit(value: Any) -> None:
        words, parts = (value,), ()
        if id(value) in seen and not isinstance(value, _PLAIN):
            words = "seen", seen[id(value)][0]
        elif not isinstance(value, _PLAIN):
            seen[id(value)] = len(seen), value
            words, parts = _look(value)
            if isinstance(value, types.CodeType):
                code.add(value)
        digest.update(repr((type(value).__name__, *words)).encode())
        for part in parts:
            visit(part)
        digest.update(b"end")

    visit(values)
    return digest.hexdigest(), code


def _look(value: Any) -> _Look:
    """What a value is in words, and its parts."""
    look = next((look for kinds, look in _LOOKS.items() if isinstance(value, kinds)), None)
    if look is not None:
        return look(value)
    if type(value).__module__.partition(".")[0] in ("typing", "jaxtyping"):
        return (), ()  # hints
    names = ["__wrapped__"]  # of what jax.jit and functools.cache make
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{kind.__name__.lstrip('_')}{name}" if private else name)
    names = [name for name in names if not name.startswith("__pydantic")]
    held = {name: getattr(value, name) for name in names if hasattr(value, name)}
    held |= getattr(value, "__dict__", {})
    shown = repr(value) if not held and type(value) is not object else ""
    if " at 0x" in shown.lower():  # an address, which is no part of the value
        shown = ""
        if not hasattr(value, "__dict__"):
            raise Opaque(f"{type(value).__qualname__}: nothing tells one from another")
    if isinstance(value, _WITH_HIDDEN_STATE):
        raise Opaque(f"{type(value).__qualname__}: its state does not show")
    return (getattr(value, "__name__", ""), shown), (type(value), held)


def _is_in(packages: Set[str], module: str | None) -> bool:
    return (module or "").partition(".")[0] in packages


def _function(function: types.FunctionType) -> _Look:
    """A function's code, defaults and what it closes over; its globals by the names that the code uses."""
    module, wrapped = function.__globals__.get("__name__"), getattr(function, "__wrapped__", None)
    if wrapped is not None and _is_in(CHECKERS, module):
        return (), (wrapped,)
    cells = tuple(cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell))
    named = ()
    if not _is_in(LIBRARIES, module):
        _check_imports(function.__code__)
        named = tuple(_named(function.__globals__, list(_names(function.__code__))))
    return (), (function.__code__, function.__defaults__, function.__kwdefaults__, *cells, wrapped, *named)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a name that has no value yet
        return False


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _named(scope: Mapping[str, Any], names: list[str], *, library: bool = False) -> Iterator[Any]:
    """The values that names have in a scope and in the modules in it; of a library, what can be called."""
    for name in names:
        value = scope.get(name)
        if isinstance(value, types.ModuleType):
            inside, others = _is_in(LIBRARIES, value.__name__), [other for other in names if other != name]
            yield from _named(vars(value), others, library=inside)
        elif name in scope and (callable(value) or not library):
            yield name
            yield value


def _code(code: types.CodeType) -> _Look:
    """Instructions, names and constants; not where the code stands, nor its documentation."""
    flags, constants = code.co_flags & ~_HAS_DOCSTRING, code.co_consts
    if sys.version_info >= (3, 14):
        documented = code.co_flags & _HAS_DOCSTRING
    else:
        documented = code.co_name[0] != "<" and constants and isinstance(constants[0], str)
    words = code.co_name, code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    words = (*words, code.co_argcount, code.co_kwonlyargcount, code.co_exceptiontable, flags)
    return words, (None, *constants[1:]) if documented else constants


def _check_imports(code: types.CodeType) -> None:
    """Refuses code that imports anything but libraries: what it then uses does not show."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _check_imports(constant)
    if dis.opmap["IMPORT_NAME"] not in code.co_code[::2]:
        return
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and not _is_in(LIBRARIES, instruction.argval):
            raise Opaque(f"{code.co_qualname} imports {instruction.argval}")


def _type(kind: type) -> _Look:
    if _is_in(LIBRARIES, kind.__module__):
        return (kind.__module__, kind.__qualname__), ()
    held = {
        name: value
        for name, value in vars(kind).items()
        if name not in _NO_PART and not name.startswith("__pydantic") and not isinstance(value, _DESCRIPTORS)
    }
    return (kind.__qualname__,), (type(kind), kind.__bases__, held)


def _builtin(value: Any) -> _Look:
    own = getattr(value, "__self__", None)
    return (value.__qualname__,), () if isinstance(own, types.ModuleType) else (own,)


def _ufunc(value: np.ufunc) -> _Look:
    if getattr(np, value.__name__, None) is not value:
        raise Opaque(f"{value!r}: made of a function that does not show")
    return (value.__name__,), ()


def _array(value: Any) -> _Look:
    array = np.ascontiguousarray(value)
    return (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()), ()


# By kind of value, the first that fits.
_LOOKS: dict[Any, Callable[[Any], _Look]] = {
    types.FunctionType: _function,
    types.CodeType: _code,
    type: _type,
    (types.GenericAlias, types.UnionType, inspect.Signature): lambda value: ((), ()),  # hints
    types.ModuleType: lambda value: ((value.__name__,), ()),
    types.MethodType: lambda value: ((), (value.__func__, value.__self__)),
    (types.BuiltinFunctionType, types.MethodWrapperType): _builtin,
    np.ufunc: _ufunc,
    functools.partial: lambda value: ((), (value.func, value.args, value.keywords)),
    property: lambda value: ((), (value.fget,)),
    functools.cached_property: lambda value: ((), (value.func,)),
    (staticmethod, classmethod): lambda value: ((), (value.__func__,)),
    (np.ndarray, jax.Array): _array,
    Mapping: lambda value: ((), (*value.keys(), *value.values())),
    (list, tuple): lambda value: ((), (*(type(value),) * (type(value) not in (list, tuple)), *value)),
    (set, frozenset): lambda value: (tuple(sorted(map(repr, value))), ()),
    logging.Logger: lambda value: ((value.name,), ()),
    PurePath: lambda value: ((str(value),), ()),
    re.Pattern: lambda value: ((value.pattern, value.flags), ()),
}
