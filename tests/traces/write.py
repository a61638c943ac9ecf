"""Writes the traces: what a model of each dialect says in each of the same scenes, and what must be read from it.

    python tests/traces/write.py

Expected results come from the scenes, never from the parser. A trace is one line of JSON: `text` as the model writes
it (for `openai_deltas`: `deltas`), `prompt` (the end of the prompt), `reason` (why it ended), and the `calls`, `words`
and `reasoning` that are in it; `errors` says that the text is broken and must be told so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
CUT = "✂"


@dataclass(frozen=True)
class Scene:
    """Parts in order: words, or a call with its arguments. `cut` ends the text at the scissors, which are left out."""

    name: str
    parts: tuple[str | tuple[str, dict[str, Any]], ...]
    reasoning: str = ""
    cut: bool = False


SKILLS = {
    "search": {"query": "string", "limit": "integer", "filters": "object", "tags": "array", "exact": "boolean"},
    "weather": {"city": "string", "unit": "string", "day": "null"},
    "measure": {"x": "number", "y": "number", "big": "integer", "on": "boolean", "off": "boolean", "none": "null"},
    "now": {},
    "write": {"path": "string", "content": "string"},
}

SCENES = (
    Scene("one_call", (("weather", {"city": "Oslo", "unit": "c"}),)),
    Scene("unicode", (("search", {"query": "東京の天気 ☀️ 👩‍💻 naïve — «é» 🇨🇭", "limit": 3}),)),
    Scene(
        "nested",
        (
            (
                "search",
                {"query": "hotels", "filters": {"price": {"max": 120.5}, "tags": ["a", {"b": []}]}, "tags": ["x", "y"]},
            ),
        ),
    ),
    Scene("no_arguments", (("now", {}),)),
    Scene("several_calls", (("weather", {"city": "Oslo"}), ("now", {}), ("search", {"query": "cafés", "limit": 2}))),
    Scene("words_before", ("Let me look that up.", ("weather", {"city": "Rome"}))),
    Scene("words_between", ("First the weather.", ("weather", {"city": "Rome"}), "Then the time.", ("now", {}))),
    Scene("words_after", (("weather", {"city": "Rome"}), "That is all.")),
    Scene("only_words", ("Paris is the capital of France, isn't it? 3 < 4 and [1] {2}.",)),
    Scene("reasoning", (("weather", {"city": "Bern"}),), reasoning="The user wants Bern.\nOne call will do."),
    Scene("reasoning_and_words", ("It is 20 °C.",), reasoning="I know that already."),
    Scene(
        "literals", (("measure", {"x": -3, "y": 2.5e-07, "big": 12345678901234567890123, "on": True, "off": False}),)
    ),
    Scene("escapes", (("write", {"path": "C:\\tmp\\new.txt", "content": 'say "hi"\n\tand \\n then } ] ) , \' end'}),)),
    Scene("empty_string", (("write", {"path": "", "content": "x"}),)),
    Scene("cut_in_string", (("weather", {"city": "Oslo"}), ("search", {"query": f"half a{CUT} word"})), cut=True),
    Scene("cut_in_words", (f"This sentence has no{CUT} end.",), cut=True),
)
# Markers of every dialect, to stand inside an argument where they are text.
MARKERS = (
    "<tool_call> and <function=x> and <arg_key>k, [TOOL_CALLS]f[ARGS]{} and <|call|><|end|>, "
    "<｜tool▁call▁end｜> <|tool_call_end|> <tool_call|> <|python_tag|> ``` <think>"
)

Part = str | tuple[str, dict[str, Any]]


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def thought(scene: Scene, opening: str, closing: str) -> str:
    return f"{opening}{scene.reasoning}{closing}" if scene.reasoning else ""


def hermes(scene: Scene) -> str:
    texts = [
        part
        if isinstance(part, str)
        else "<tool_call>\n" + compact({"name": part[0], "arguments": part[1]}) + "\n</tool_call>"
        for part in scene.parts
    ]
    return thought(scene, "<think>\n", "\n</think>\n\n") + "\n".join(texts)


def bare(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


def qwen3_xml(scene: Scene) -> str:
    texts = []
    for part in scene.parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        values = "".join(f"<parameter={key}>\n{bare(value)}\n</parameter>\n" for key, value in part[1].items())
        texts.append(f"<tool_call>\n<function={part[0]}>\n{values}</function>\n</tool_call>")
    return thought(scene, "<think>\n", "\n</think>\n\n") + "\n".join(texts)


def glm(scene: Scene) -> str:
    texts = []
    for part in scene.parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        values = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{bare(value)}</arg_value>\n" for key, value in part[1].items()
        )
        texts.append(f"<tool_call>{part[0]}\n{values}</tool_call>")
    return thought(scene, "\n<think>", "</think>\n") + "\n".join(texts)


def deepseek(scene: Scene) -> str:
    texts = [
        part
        if isinstance(part, str)
        else "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>"
        f"{part[0]}\n```json\n{compact(part[1])}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        for part in scene.parts
    ]
    return thought(scene, "<think>\n", "\n</think>\n\n") + "".join(texts)


def deepseek_v31(scene: Scene) -> str:
    texts = []
    for part in scene.parts:
        if isinstance(part, str):
            texts.append(part)
        else:
            call = f"<｜tool▁call▁begin｜>{part[0]}<｜tool▁sep｜>{compact(part[1])}<｜tool▁call▁end｜>"
            texts.append(f"<｜tool▁calls▁begin｜>{call}<｜tool▁calls▁end｜>")
    return thought(scene, "<think>", "</think>") + "".join(texts)


def deepseek_dsml(scene: Scene) -> str:
    texts = []
    for part in scene.parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        values = "".join(
            f'<｜DSML｜parameter name="{key}" string="{"true" if isinstance(value, str) else "false"}">'
            f"{bare(value)}</｜DSML｜parameter>\n"
            for key, value in part[1].items()
        )
        call = f'<｜DSML｜invoke name="{part[0]}">\n{values}</｜DSML｜invoke>\n'
        texts.append(f"<｜DSML｜function_calls>\n{call}</｜DSML｜function_calls>")
    return thought(scene, "<think>", "</think>") + "".join(texts)


def gpt_oss(scene: Scene) -> str:
    messages = [f"<|channel|>analysis<|message|>{scene.reasoning}"] if scene.reasoning else []
    last = len(scene.parts) - 1
    for number, part in enumerate(scene.parts):
        if isinstance(part, str):
            channel = "final" if number == last else "commentary"
            messages.append(f"<|channel|>{channel}<|message|>{part}")
        else:
            messages.append(
                f" to=functions.{part[0]}<|channel|>commentary <|constrain|>json<|message|>{compact(part[1])}"
            )
    return "<|end|><|start|>assistant".join(messages)


def kimi(scene: Scene) -> str:
    texts = []
    for number, part in enumerate(scene.parts):
        if isinstance(part, str):
            texts.append(part)
            continue
        head = f"<|tool_call_begin|>functions.{part[0]}:{number}<|tool_call_argument_begin|>"
        call = f"{head}{compact(part[1])}<|tool_call_end|>"
        texts.append(f"<|tool_calls_section_begin|>{call}<|tool_calls_section_end|>")
    return thought(scene, "<think>", "</think>") + "".join(texts)


def kimi_k3(scene: Scene) -> str:
    kinds = {str: "string", bool: "boolean", int: "number", float: "number", dict: "object", list: "array"}
    texts = [f"<|open|>think<|sep|>{scene.reasoning}<|close|>think<|sep|>"] if scene.reasoning else []
    for number, part in enumerate(scene.parts):
        if isinstance(part, str):
            texts.append(f"<|open|>response<|sep|>{part}<|close|>response<|sep|>")
            continue
        values = "".join(
            f'<|open|>argument key="{key}" type="{kinds[type(value)]}"<|sep|>{bare(value)}<|close|>argument<|sep|>'
            for key, value in part[1].items()
        )
        call = f'<|open|>call tool="{part[0]}" index="{number}"<|sep|>{values}<|close|>call<|sep|>'
        texts.append(f"<|open|>tools<|sep|>{call}<|close|>tools<|sep|>")
    return "".join(texts) + "<|close|>message<|sep|>"


def mistral(scene: Scene) -> str:
    texts = [
        part if isinstance(part, str) else f"[TOOL_CALLS]{part[0]}[ARGS]{compact(part[1])}" for part in scene.parts
    ]
    return thought(scene, "[THINK]", "[/THINK]") + "".join(texts)


def gemma_value(value: Any) -> str:
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{gemma_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(gemma_value, value)) + "]"
    return compact(value)


def gemma(scene: Scene) -> str:
    texts = [
        part if isinstance(part, str) else f"<|tool_call>call:{part[0]}{gemma_value(part[1])}<tool_call|>"
        for part in scene.parts
    ]
    return thought(scene, "<|channel>thought\n", "\n<channel|>") + "".join(texts)


def calls_only(scene: Scene) -> bool:
    return not scene.reasoning and all(not isinstance(part, str) for part in scene.parts)


def llama(scene: Scene) -> str | None:
    """JSON behind a tag; a first call may also stand at the very start."""
    if scene.reasoning:
        return None
    texts = [
        part if isinstance(part, str) else "<|python_tag|>" + compact({"name": part[0], "parameters": part[1]})
        for part in scene.parts
    ]
    return "".join(texts)


def llama_pythonic(scene: Scene) -> str | None:
    if not calls_only(scene) or scene.cut:
        return None
    calls = [
        f"{part[0]}({', '.join(f'{key}={value!r}' for key, value in part[1].items())})"
        for part in scene.parts
        if not isinstance(part, str)
    ]
    return "[" + ", ".join(calls) + "]"


def json_list(scene: Scene) -> str | None:
    if not calls_only(scene):
        return None
    return compact([{"name": part[0], "arguments": part[1]} for part in scene.parts if not isinstance(part, str)])


def yaml_plan(scene: Scene, write: Callable[[list[tuple[str, dict[str, Any]]]], str]) -> str | None:
    """Calls alone stand bare; among words each run of calls stands in a block of its own."""
    if scene.reasoning:
        return None
    if calls_only(scene):
        return write([part for part in scene.parts if not isinstance(part, str)])
    texts = [part if isinstance(part, str) else f"```yaml\n{write([part])}```" for part in scene.parts]
    return "\n".join(texts)


def yaml_dumped(calls: list[tuple[str, dict[str, Any]]]) -> str:
    plan = [{"name": name, "arguments": arguments} for name, arguments in calls]
    return yaml.safe_dump(plan, sort_keys=False, allow_unicode=True)


def yaml_by_hand(calls: list[tuple[str, dict[str, Any]]]) -> str:
    """As models write it: JSON for what needs quotes and for containers, `|` for text of several lines."""
    lines = ["calls:"]
    for name, arguments in calls:
        lines += [f"  - name: {name}", "    arguments:" + ("" if arguments else " {}")]
        for key, value in arguments.items():
            if isinstance(value, str) and "\n" in value:
                lines.append(f"      {key}: |-  # text")
                lines += ["        " + line for line in value.split("\n")]
            elif isinstance(value, str) and value.replace(" ", "").replace(CUT, "").isalnum():
                lines.append(f"      {key}: {value}")
            else:
                lines.append(f"      {key}: {compact(value)}")
    return "\n".join(lines) + "\n"


# Dialect of the parser, style of the trace, how it is written.
WRITERS: tuple[tuple[str, str, Callable[[Scene], str | None]], ...] = (
    ("hermes", "", hermes),
    ("qwen3_xml", "", qwen3_xml),
    ("glm", "", glm),
    ("deepseek", "v3_", deepseek),
    ("deepseek", "v31_", deepseek_v31),
    ("deepseek", "dsml_", deepseek_dsml),
    ("gpt_oss", "", gpt_oss),
    ("kimi", "", kimi),
    ("kimi_k3", "", kimi_k3),
    ("mistral", "", mistral),
    ("gemma", "", gemma),
    ("llama", "json_", llama),
    ("llama", "pythonic_", llama_pythonic),
    ("json_list", "", json_list),
    ("yaml_plan", "dumped_", lambda scene: yaml_plan(scene, yaml_dumped)),
    ("yaml_plan", "by_hand_", lambda scene: yaml_plan(scene, yaml_by_hand)),
)

# Broken in ways that no rule mends: nothing may be called, and the break must be told.
BROKEN: dict[str, tuple[str, ...]] = {
    "hermes": ("<tool_call>not a call</tool_call>", '<tool_call>{"arguments": {"a": 1}}</tool_call>'),
    "qwen3_xml": (
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=now>\nwords here\n</function>\n</tool_call>",
    ),
    "glm": ("<tool_call></tool_call>", "<tool_call>now\n<arg_value>1</arg_value>\n</tool_call>"),
    "deepseek": (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>[1]<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="">\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>',
    ),
    "gpt_oss": (
        " to=functions.now<|channel|>commentary json<|message|>[1, 2]<|call|>",
        " to=functions.<|channel|>commentary json<|message|>{}<|call|>",
    ),
    "kimi": (
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.:0<|tool_call_argument_begin|>{}<|tool_call_end|>"
            "<|tool_calls_section_end|>"
        ),
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>[]<|tool_call_end|>"
            "<|tool_calls_section_end|>"
        ),
    ),
    "kimi_k3": (
        '<|open|>tools<|sep|><|open|>call index="1"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>',
        '<|open|>tools<|sep|><|open|>call tool="now"<|sep|>words<|close|>call<|sep|><|close|>tools<|sep|>',
    ),
    "mistral": ("[TOOL_CALLS][ARGS]{}", "[TOOL_CALLS]now[ARGS][1, 2]"),
    "gemma": ("<|tool_call>call:now no brace<tool_call|>", "<|tool_call>now{}<tool_call|>"),
    "llama": ('<|python_tag|>{"name": "now", "parameters": {"a" 1}}', "[now(1 2)]"),
    "json_list": (
        '[{"name": "now", "arguments": [1]}]',
        '[{"arguments": {}}]',
        '[{"name": "now", "arguments": {"a" 1}}]',
    ),
    "yaml_plan": (
        "- arguments:\n    a: 1\n",
        "- name: now\n  arguments: [1, 2]\n",
        "- name: now\n  arguments:\n    a: {b: [c}\n",
        "- name:\n  arguments: {}\n",
    ),
}


def trace(dialect: str, scene: Scene, style: str, text: str) -> dict[str, Any]:
    # Where a line end separates words from a call, the one behind a call stays with the words that follow.
    between = "\n" if dialect in ("hermes", "qwen3_xml", "glm", "yaml_plan") else ""
    words = between.join(part for part in scene.parts if isinstance(part, str))
    calls = [part for part in scene.parts if not isinstance(part, str)]
    if scene.cut:
        text = text[: text.index(CUT)]
        words = words.split(CUT)[0]
        calls = [call for call in calls if CUT not in compact(call)]
    return {
        "name": style + scene.name,
        "text": text,
        "reason": "length" if scene.cut else "stop",
        "calls": calls,
        "words": words,
        "reasoning": scene.reasoning,
        "errors": False,
    }


def deltas(scene: Scene) -> dict[str, Any] | None:
    written = trace("openai_deltas", scene, "", CUT)
    found: list[dict[str, Any]] = [{"reasoning_content": scene.reasoning}] if scene.reasoning else []
    index = 0
    for part in scene.parts:
        if isinstance(part, str):
            found.append({"content": part.split(CUT)[0]})
            continue
        text = compact(part[1]).split(CUT)[0]
        found.append(
            {"tool_calls": [{"index": index, "id": f"c{index}", "function": {"name": part[0], "arguments": ""}}]}
        )
        found.append({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
        index += 1
    del written["text"]
    return {**written, "deltas": found}


def main() -> None:
    lines: dict[str, list[str]] = {}
    for dialect, style, write in WRITERS:
        scenes = list(SCENES)
        # A value of this dialect cannot hold its own closing marker; all other markers are text in it.
        scenes.append(Scene("markers_in_string", (("write", {"path": "m.md", "content": MARKERS}),)))
        for scene in scenes:
            text = write(scene)
            if text is not None:
                lines.setdefault(dialect, []).append(compact(trace(dialect, scene, style, text)))
    for dialect, texts in BROKEN.items():
        for number, text in enumerate(texts):
            broken = {**trace(dialect, Scene(f"broken_{number}", ()), "", text), "errors": True}
            lines[dialect].append(compact(broken))
    lines["openai_deltas"] = [compact(deltas(scene)) for scene in SCENES]
    for dialect, found in lines.items():
        (FOLDER / f"{dialect}.jsonl").write_text("\n".join(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
