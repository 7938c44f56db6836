"""``slicer.parameterNodeWrapper``, as far as the module's settings go.

The desktop's own is not in the wheel. This one stores values in the same parameters and references
of a vtkMRMLScriptedModuleNode, so what one writes the other reads.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Any

import slicer
import vtk


def as_module() -> types.ModuleType:
    """The module to put into ``sys.modules`` as ``slicer.parameterNodeWrapper``."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    module.parameterNodeWrapper = parameter_node_wrapper  # type: ignore[attr-defined]
    return module


class Value:
    """One parameter: a text in the node."""

    def __init__(self, type_: Any) -> None:
        self.type = type_

    def default(self) -> Any:
        return self.type()

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, self.text(value))

    def read(self, node: Any, name: str) -> Any:
        return self.value(node.GetParameter(name))

    def text(self, value: Any) -> str:
        return str(value)

    def value(self, text: str) -> Any:
        return self.type(text)


class Bool(Value):
    def text(self, value: Any) -> str:
        return str(bool(value))

    def value(self, text: str) -> bool:
        return text.lower() == "true"


class Choice(Value):
    def default(self) -> Any:
        return next(iter(self.type))

    def text(self, value: Any) -> str:
        return str(value.name)

    def value(self, text: str) -> Any:
        return self.type[text]


class Node(Value):
    """A node reference, beside an empty parameter that says it has been set."""

    def default(self) -> Any:
        return None

    def write(self, node: Any, name: str, value: Any) -> None:
        if value is not None and not isinstance(value, self.type):
            raise ValueError(f"{name} takes a {self.type.__name__}, not a {type(value).__name__}.")
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


class List(Value):
    """A parameter for the length, and one for each element."""

    def is_in(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def default(self) -> Any:
        return []

    def write(self, node: Any, name: str, value: Any) -> None:
        element = _kind(typing.get_args(self.type)[0])
        for index, item in enumerate(value):
            element.write(node, f"{name}.{index}", item)
        earlier = int(node.GetParameter(f"{name}.len") or 0)
        node.SetParameter(f"{name}.len", str(len(value)))
        for index in range(len(value), earlier):
            node.UnsetParameter(f"{name}.{index}")

    def read(self, node: Any, name: str) -> Any:
        element = _kind(typing.get_args(self.type)[0])
        count = int(node.GetParameter(f"{name}.len") or 0)
        return [element.read(node, f"{name}.{index}") for index in range(count)]


def _kind(type_: Any) -> Value:
    if typing.get_origin(type_) is list:
        return List(type_)
    if issubclass(type_, slicer.vtkMRMLNode):
        return Node(type_)
    if issubclass(type_, enum.Enum):
        return Choice(type_)
    return Bool(type_) if type_ is bool else Value(type_)


def parameter_node_wrapper(wrapped: type) -> type:
    """The class decorator: typed properties over a parameter node, and binding to widgets."""
    kinds = {name: _kind(type_) for name, type_ in typing.get_type_hints(wrapped).items()}
    defaults = {
        name: getattr(wrapped, name) if hasattr(wrapped, name) else kind.default()
        for name, kind in kinds.items()
    }

    def init(self: Any, node: Any) -> None:
        self.parameterNode = node
        self._gui: dict[int, list[Callable[[], None]]] = {}
        self._next_tag = 0
        for name, kind in kinds.items():
            if not kind.is_in(node, name):
                kind.write(node, name, defaults[name])

    wrapped.__init__ = init  # type: ignore[misc]
    for name, kind in kinds.items():
        setattr(wrapped, name, _property(name, kind))
    wrapped._kinds = kinds  # type: ignore[attr-defined]
    wrapped.connectGui = _connect_gui  # type: ignore[attr-defined]
    wrapped.disconnectGui = _disconnect_gui  # type: ignore[attr-defined]
    return wrapped


def _property(name: str, kind: Value) -> property:
    def write(self: Any, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            kind.write(self.parameterNode, name, value)

    return property(lambda self: kind.read(self.parameterNode, name), write)


def _connect_gui(self: Any, ui: Any) -> int:
    """Bind every widget of `ui` that has a SlicerParameterName, both ways."""
    from SlicerRuntime import widgets

    bound = []
    for widget in vars(ui).values():
        name = widget.property("SlicerParameterName")
        if name:
            if name not in self._kinds:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            bound.append((name, widgets.binding(widget, self._kinds[name].type)))
    updating = False

    def to_widgets(*_: Any) -> None:
        nonlocal updating
        if not updating:
            updating = True
            try:
                for name, binding in bound:
                    binding.write(getattr(self, name))
            finally:
                updating = False

    def from_widget(name: str, binding: Any) -> Callable[..., None]:
        def changed(*_: Any) -> None:
            if not updating:
                setattr(self, name, binding.read())

        return changed

    to_widgets()
    undo = []
    for name, binding in bound:
        undo.append(binding.connect(from_widget(name, binding)))
    tag = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widgets)
    undo.append(lambda: self.parameterNode.RemoveObserver(tag))
    self._next_tag += 1
    self._gui[self._next_tag] = undo
    return self._next_tag


def _disconnect_gui(self: Any, tag: int) -> None:
    for undo in self._gui.pop(tag, []):
        undo()
