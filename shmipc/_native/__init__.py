"""The C11 core, without Python.h, and its thin Cython binding."""

try:
    import shmipc._native.binding as binding
except ModuleNotFoundError as error:
    if error.name != "shmipc._native.binding":
        raise
    raise ImportError(
        "shmipc is imported from a source tree without its built extension: "
        'run `pip install -e ".[test]"` there first.'
    ) from None

__all__ = ["binding"]
