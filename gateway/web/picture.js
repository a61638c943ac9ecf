// The picture of who ran when: rows of spans on one time axis, drawn while a turn runs and from the log once it has ended.

import { button, element } from "./dom.js";
import { rows } from "./turn.js";

const SVG = "http://www.w3.org/2000/svg";
const ROW_PX = 20;
const NAME_PX = 132;
const PADDING_PX = 29;
const THICK_PX = { running: 6, looking: 6, waiting: 3, checking: 6 };
const LEGEND = [["model", "model"], ["written", "call written"], ["running", "call running"], ["looking", "looked up"]];

export class Picture {
  // onWhole(): the person asks for the picture that the log gives; the answer to it is `drawAxis`.
  constructor(onWhole) {
    this.root = element("details", "timeline");
    this.picture = document.createElementNS(SVG, "svg");
    this.picture.setAttribute("role", "img");
    this.told = element("p", "told");
    this.told.hidden = true;
    const legend = element("p", "legend");
    legend.append(...LEGEND.map(([className, text]) => element("span", className, text)));
    this.more = button("Frames and checks, from the log", "quiet", onWhole);
    this.more.hidden = true;
    this.root.append(element("summary", "", "Timeline"), this.picture, this.told, legend, this.more);
    this.again = () => {};
    new ResizeObserver(() => this.again()).observe(this.root);
    this.root.open = true;
    this.root.hidden = true;
    this.whole = false; // drawn from the log: what the frames tell adds nothing
  }

  // What a turn's frames tell so far. now: ms of wall clock that what is open reaches to.
  draw(turn, now) {
    if (this.whole || turn.steps.length + turn.calls.size === 0) return;
    const { rows: made, length } = rows(turn, now);
    this.shown(made, length, () => this.draw(turn, now));
  }

  // The turn is over. open: there is something to see in its picture.
  end(open) {
    this.root.open = open;
    this.more.hidden = this.whole;
  }

  // The axis of a turn that has ended, as GET /v1/responses/{id}/timeline gives it.
  drawAxis(axis) {
    this.whole = true;
    const end = Math.max(1, axis.took_ms, ...axis.spans.map((span) => span.end_ms), ...axis.marks.map((mark) => mark.at_ms));
    const made = axis.lanes.map((name) => ({
      name, kind: name,
      spans: axis.spans.filter((span) => span.lane === name).map((span) => [
        span.begin_ms, span.end_ms, KINDS[span.kind](span, name), `${span.name}: ${span.detail}`,
      ]),
      marks: axis.marks.filter((mark) => mark.lane === name).map((mark) => [mark.at_ms, mark.name]),
    }));
    this.more.hidden = true;
    this.told.hidden = false;
    this.told.textContent = `${whole(axis.took_ms)} ms, ${whole(axis.saved_ms)} ms saved`;
    this.shown(made, end, () => this.drawAxis(axis));
  }

  shown(made, length, again) {
    this.root.hidden = false;
    this.again = again;
    const width = Math.max(240, Math.round(this.root.clientWidth - PADDING_PX) || 640);
    const room = width - NAME_PX - 8;
    const height = made.length * ROW_PX + 18;
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.picture.setAttribute("height", String(height));
    this.picture.setAttribute("width", String(width));
    this.picture.setAttribute("aria-label", spoken(made));
    const parts = [];
    made.forEach((row, index) => {
      const y = index * ROW_PX;
      parts.push(shape("text", { x: 0, y: y + 14, class: "row-name" }, row.name.slice(0, 20)));
      parts.push(shape("line", { x1: NAME_PX, x2: width, y1: y + ROW_PX, y2: y + ROW_PX, class: "row-line" }));
      for (const [from, to, what, title] of row.spans) {
        const x = NAME_PX + (Math.max(0, from) / length) * room;
        const wide = Math.max(2, ((to - Math.max(0, from)) / length) * room);
        const thick = THICK_PX[what] || 10;
        const kind = `bar bar-${what === "model" ? row.kind : what}`;
        const top = y + (ROW_PX - thick) / 2;
        const bar = shape("rect", { x: x.toFixed(1), y: top, width: wide.toFixed(1), height: thick, rx: 3, class: kind });
        if (title) bar.append(shape("title", {}, title));
        parts.push(bar);
      }
      for (const [at, title] of row.marks || []) {
        const x = (NAME_PX + (Math.max(0, at) / length) * room).toFixed(1);
        const mark = shape("line", { x1: x, x2: x, y1: y + 4, y2: y + ROW_PX - 4, class: "tick" });
        mark.append(shape("title", {}, `${title} at ${whole(at)} ms`));
        parts.push(mark);
      }
    });
    const ruler = made.length * ROW_PX + 13;
    parts.push(shape("text", { x: NAME_PX, y: ruler, class: "ruler" }, "0"));
    parts.push(shape("text", { x: width - 2, y: ruler, class: "ruler last" }, `${whole(length)} ms`));
    this.picture.replaceChildren(...parts);
  }
}

// How a span of the log's axis is drawn; a call is written and run, a model waited for and writing.
const KINDS = {
  looking: () => "looking", waiting: () => "waiting", running: () => "running", checking: () => "checking",
  writing: (span, lane) => (lane.startsWith("call ") ? "written" : "model"),
};

function whole(number) {
  return Math.round(number).toLocaleString("en");
}

function spoken(made) {
  return made
    .map((row) => `${row.name}: ${row.spans.map(([from, to]) => `${Math.round(from)} to ${Math.round(to)} ms`).join(", ")}`)
    .join("; ");
}

function shape(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}
