"""Counts what the text of a program compiled for an NVIDIA GPU says: kernels, bytes, operations and time by kind.

A kernel is an instruction of the entry computation (the body of a loop counts once a turn) but those that compute
nothing. It reads its operands and writes its result once. Its time is the longest of three: its bytes at the card's
bandwidth, the operations of its product or convolution at the card's speed, and the least time of a kernel.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

KINDS = ("products", "convolutions", "BatchNorm statistics", "attention", "transposes and copies", "optimiser",
         "elementwise and others")
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "after-all", "opt-barrier"}
_ARRAY = re.compile(r"(?P<kind>pred|[a-z]+(?P<bits>\d+))\w*\[(?P<shape>[\d,]*)\]")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<operation>[\w\-]+)"
                          r"\((?P<operands>[^)]*)\)(?P<rest>.*)")
_PLACE = re.compile(r"^(\d+) \{file_name_id=(\d+) .*?line=(\d+)")
_FRAME = re.compile(r"^(\d+) \{file_location_id=(\d+)")


@dataclass(frozen=True)
class Card:
    """The speed that programs reach on a card.

    Attributes:
        bandwidth: bytes a second.
        speed: operations a second of products and convolutions.
        least: seconds of the shortest kernel.
    """

    bandwidth: float
    speed: float
    least: float


@dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
        name, kind: of the instruction; one of `KINDS`.
        source: file and line that it was traced from, such as "axial.py:131", "" where the program does not say.
        size: bytes of operands and results.
        operations: of its product or convolution, else 0.
        times: how often it runs, more than once in a loop.
    """

    name: str
    kind: str
    source: str
    size: int
    operations: float
    times: int

    def seconds(self, card: Card) -> float:
        """Of all its runs."""
        return self.times * max(self.size / card.bandwidth, self.operations / card.speed, card.least)


def size_of(shape: str) -> int:
    """Bytes of the arrays in the text of a shape."""
    return sum(int(array["bits"] or 8) // 8 * math.prod(dimensions(array["shape"])) for array in
               _ARRAY.finditer(shape))


def dimensions(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


class Program:
    """The text of a compiled program."""

    def __init__(self, text: str):
        self._computations: dict[str, list[re.Match]] = {}
        self._files: dict[str, str] = {}
        self._places: dict[str, tuple[str, str]] = {}
        self._frames: dict[str, str] = {}
        self._shapes: dict[str, str] = {}
        table, current = "", ""
        for line in text.splitlines():
            if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
                table = line
            elif started := _COMPUTATION.match(line):
                table, current = "", started["name"]
                self._computations[current] = []
                if started["entry"]:
                    self._entry = current
            elif table == "FileNames" and '"' in line:
                number, name = line.split(" ", 1)
                self._files[number] = name.strip('"').rpartition("/")[2]
            elif table == "FileLocations" and (place := _PLACE.match(line)):
                self._places[place[1]] = place[2], place[3]
            elif table == "StackFrames" and (frame := _FRAME.match(line)):
                self._frames[frame[1]] = frame[2]
            elif current and (instruction := _INSTRUCTION.match(line)):
                self._computations[current].append(instruction)
                self._shapes[instruction["name"]] = instruction["shape"]

    @cached_property
    def kernels(self) -> list[Kernel]:
        """All kernels in the order in which they run."""
        return list(self._walk(self._entry, 1))

    def _walk(self, computation: str, times: int) -> Iterator[Kernel]:
        for instruction in self._computations[computation]:
            if instruction["operation"] in _FREE:
                continue
            if instruction["operation"] == "while":
                turns = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction["rest"])
                body = re.search(r"body=%?([\w.\-]+)", instruction["rest"])
                yield from self._walk(body[1], times * int(turns[1] if turns else 1))
                continue
            operands = re.findall(r"%([\w.\-]+)", instruction["operands"])
            size = size_of(instruction["shape"]) + self._read(instruction, operands)
            kind, operations = self._work(instruction, operands)
            yield Kernel(instruction["name"], kind, self._source(instruction["rest"]), size, operations, times)

    def _read(self, instruction: re.Match, operands: list[str]) -> int:
        """Bytes that an instruction reads: of an operand of which it only takes slices, these."""
        called = re.search(r"calls=%?([\w.\-]+)", instruction["rest"])
        if called is None:
            return sum(size_of(self._shapes[name]) for name in operands)
        inside, total = self._computations[called[1]], 0
        parameters = {int(part["operands"]): part for part in inside if part["operation"] == "parameter"}
        for number, operand in enumerate(operands):
            name = re.compile(rf"%{re.escape(parameters[number]['name'])}(?![\w.\-])")
            readers = [part for part in inside if name.search(part["operands"])]
            slices = all(part["operation"] == "slice" for part in readers)
            total += min(size_of(self._shapes[operand]), sum(size_of(part["shape"]) for part in readers)
                         if slices else size_of(self._shapes[operand]))
        return total

    def _source(self, rest: str) -> str:
        frame = re.search(r"stack_frame_id=(\d+)", rest)
        if frame is None:
            return ""
        file, line = self._places[self._frames[frame[1]]]
        return f"{self._files[file]}:{line}"

    def _work(self, instruction: re.Match, operands: list[str]) -> tuple[str, float]:
        name, rest, source = instruction["name"], instruction["rest"], self._source(instruction["rest"])
        if "__cudnn$conv" in rest:
            return "convolutions", self._convolution(instruction, operands)
        if "__cublas" in rest:
            numbers = json.loads(re.search(r'"dot_dimension_numbers":(\{.*?\})', rest)[1])
            return "products", self._product(instruction["shape"], operands[0],
                                             map(int, numbers["lhs_contracting_dimensions"]))
        called = re.search(r"calls=%?([\w.\-]+)", rest)
        for inside in self._computations[called[1]] if called else ():
            if inside["operation"] == "dot":
                contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", inside["rest"])
                left = re.findall(r"%([\w.\-]+)", inside["operands"])[0]
                return "products", self._product(inside["shape"], left, dimensions(contracted[1]))
        if source.startswith("batch_norm") and "reduce" in name:
            return "BatchNorm statistics", 0
        if "transpose" in name or "copy" in name:
            return "transposes and copies", 0
        if source.startswith("axial"):
            return "attention", 0
        if source.startswith(("step.py", "optim", "transform", "update", "_")):
            return "optimiser", 0
        return "elementwise and others", 0

    def _product(self, shape: str, left: str, contracted) -> float:
        sizes = dimensions(_ARRAY.search(self._shapes[left])["shape"])
        result = math.prod(dimensions(_ARRAY.search(shape)["shape"]))
        return 2.0 * result * math.prod(sizes[axis] for axis in contracted)

    def _convolution(self, instruction: re.Match, operands: list[str]) -> float:
        """Two for each output cell, cell of the kernel and input channel, whichever array is the result."""
        labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction["rest"])
        backward_kernel = "convBackwardFilter" in instruction["rest"]
        backward_input = "convBackwardInput" in instruction["rest"]
        arrays = [dimensions(_ARRAY.search(text)["shape"]) for text in
                  (self._shapes[operands[0]], self._shapes[operands[1]], instruction["shape"])]
        if backward_kernel:  # (input, gradient of the output) -> kernel
            kernel, output = arrays[2], arrays[1]
        elif backward_input:  # (gradient of the output, kernel) -> input
            kernel, output = arrays[1], arrays[0]
        else:
            kernel, output = arrays[1], arrays[2]
        outputs = kernel[labels[2].index("o")]
        return 2.0 * math.prod(output) * math.prod(kernel) / outputs
