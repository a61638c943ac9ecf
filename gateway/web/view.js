// A turn on the page. Text from people, models and skills goes in as text nodes only, never as markup.

import { rows } from "./turn.js";

const SVG = "http://www.w3.org/2000/svg";
const ROW_PX = 20;
const NAME_PX = 132;
const PADDING_PX = 29;
const STATES = { written: "writing", fired: "running", answered: "answered", failed: "failed", voided: "voided" };

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class TurnView {
  constructor(turn, question, onApprove) {
    this.turn = turn;
    this.onApprove = onApprove;
    this.cards = new Map();
    this.root = element("article", "turn");
    this.root.dataset.response = turn ? turn.response : "";
    this.root.setAttribute("aria-label", "Question and answer");
    this.asked = element("p", "question", question);
    this.asked.hidden = !question;
    this.known = element("p", "known");
    this.calls = element("div", "calls");
    this.answer = element("div", "answer");
    this.answer.setAttribute("aria-live", "polite");
    this.answer.setAttribute("aria-busy", "true");
    this.text = document.createTextNode("");
    this.caret = element("span", "caret");
    this.caret.setAttribute("aria-hidden", "true");
    this.answer.append(this.text, this.caret);
    this.approvals = element("div", "approvals");
    this.end = element("p", "end");
    this.end.hidden = true;
    this.details = element("details", "timeline");
    this.summary = element("summary", "", "Timeline");
    this.picture = document.createElementNS(SVG, "svg");
    this.picture.setAttribute("role", "img");
    const legend = element("p", "legend");
    legend.append(element("span", "model", "model"), element("span", "written", "call written"));
    legend.append(element("span", "running", "call running"));
    this.details.append(this.summary, this.picture, legend);
    this.drawn = 0;
    new ResizeObserver(() => this.draw(this.drawn)).observe(this.details);
    this.details.open = true;
    this.details.hidden = true;
    this.root.append(this.asked, this.known, this.calls, this.details, this.answer, this.approvals, this.end);
  }

  ask(question) {
    this.asked.textContent = question;
    this.asked.hidden = !question;
  }

  // The frame was folded into the turn; `changed` is what Turn.feed said.
  update(changed, frame) {
    const turn = this.turn;
    this.root.dataset.response = turn.response;
    if (changed === "answer") {
      this.text.appendData(frame.delta);
      return;
    }
    if (changed === "call") this.card(frame.call);
    if (changed === "steps") this.tell();
    if (changed === "end") this.finish();
  }

  tell() {
    const turn = this.turn;
    const parts = [];
    if (turn.agent) parts.push(`agent ${turn.agent}`);
    if (turn.agent === null) parts.push("out of scope");
    if (turn.recalled.length) parts.push(`remembered ${turn.recalled.length}`);
    const models = [...new Set(turn.steps.map((step) => step.model).filter(Boolean))];
    if (models.length) parts.push(models.join(", "));
    this.known.textContent = parts.join(" · ");
    this.known.title = turn.recalled.map((item) => item.text).join("\n");
    if (turn.approvals.length > this.approvals.childElementCount) this.approve(turn.approvals.at(-1));
  }

  card(number) {
    const call = this.turn.calls.get(number);
    let card = this.cards.get(number);
    if (!card) {
      card = this.makeCard(number);
      this.cards.set(number, card);
      this.calls.append(card.root);
    }
    card.root.dataset.state = call.state;
    card.name.textContent = call.skill;
    card.badge.textContent = STATES[call.state] || call.state;
    const split = call.firedAt >= 0 ? call.firedAt : call.written.length;
    card.before.data = call.written.slice(0, split);
    card.after.data = call.written.slice(split);
    const early = call.fired >= 0 && call.early;
    card.mark.hidden = !early;
    card.mark.textContent = early ? `⚡ ${call.token}` : "";
    card.fired.hidden = call.fired < 0;
    card.fired.textContent = early ? `fired at token ${call.token}, while it was being written` : "fired once written";
    card.fired.dataset.early = String(early);
    card.caret.hidden = call.closed >= 0 || call.state === "voided" || this.turn.over;
    card.outcome.hidden = call.ended < 0;
    card.outcome.textContent = outcome(call);
    card.result.hidden = !call.result;
    card.resultText.textContent = call.result;
  }

  makeCard(number) {
    const root = element("section", "call");
    root.dataset.call = String(number);
    root.setAttribute("aria-label", `Call ${number + 1}`);
    const head = element("div", "call-head");
    const name = element("span", "skill");
    const badge = element("span", "badge");
    head.append(name, badge);
    const args = element("code", "arguments");
    const before = document.createTextNode("");
    const after = document.createTextNode("");
    const mark = element("mark", "fired-mark");
    const caret = element("span", "caret");
    caret.setAttribute("aria-hidden", "true");
    args.append(before, mark, after, caret);
    const life = element("p", "life");
    const fired = element("span", "fired");
    const end = element("span", "outcome");
    life.append(fired, end);
    const result = element("details", "result");
    const resultText = element("pre", "", "");
    result.append(element("summary", "", "Result"), resultText);
    root.append(head, args, life, result);
    return { root, name, badge, before, mark, after, caret, fired, outcome: end, result, resultText };
  }

  approve(approval) {
    const box = element("div", "approval");
    box.append(element("p", "", `May ${approval.skill} run with ${JSON.stringify(approval.arguments)}?`));
    const row = element("div", "row");
    for (const [label, yes] of [["Approve", true], ["Decline", false]]) {
      const button = element("button", yes ? "send" : "quiet", label);
      button.type = "button";
      button.addEventListener("click", () => {
        box.remove();
        this.onApprove(approval, yes);
      });
      row.append(button);
    }
    box.append(row);
    this.approvals.append(box);
  }

  finish() {
    const turn = this.turn;
    this.answer.setAttribute("aria-busy", "false");
    this.caret.remove();
    this.answer.hidden = !turn.text;
    for (const number of turn.calls.keys()) this.card(number);
    const parts = [];
    if (turn.status === "cancelled") parts.push("stopped");
    else if (turn.status === "failed") parts.push(turn.error || "failed");
    else if (turn.status === "incomplete") parts.push(`incomplete: ${turn.reason}`);
    else if (turn.reason) parts.push(`waits for ${turn.reason.replace("_", " ")}`);
    if (turn.summary) {
      parts.push(`${Math.round(turn.summary.took_ms).toLocaleString("en")} ms`);
      if (turn.calls.size) {
        const saved = Math.round(turn.summary.saved_ms).toLocaleString("en");
        const most = Math.round(turn.summary.oracle_ms).toLocaleString("en");
        parts.push(`${saved} ms saved of at most ${most}`);
      }
    }
    this.end.textContent = parts.join(" · ");
    this.end.dataset.status = turn.status;
    this.end.hidden = parts.length === 0;
    this.draw(turn.ended);
    this.details.open = turn.calls.size > 0;
  }

  // Said by the gateway to this socket only: the turn could not be carried out, or not yet.
  fail(message) {
    this.end.textContent = message;
    this.end.dataset.status = "failed";
    this.end.hidden = false;
    this.answer.setAttribute("aria-busy", "false");
    this.caret.remove();
  }

  // The picture of who ran when. now: ms of wall clock that what is open reaches to.
  draw(now) {
    if (!this.turn || this.turn.steps.length + this.turn.calls.size === 0) return;
    this.details.hidden = false;
    this.drawn = now;
    const { rows: made, length } = rows(this.turn, now);
    const width = Math.max(240, Math.round(this.details.clientWidth - PADDING_PX) || 640);
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
      for (const [from, to, what] of row.spans) {
        const x = NAME_PX + (Math.max(0, from) / length) * room;
        const wide = Math.max(2, ((to - Math.max(0, from)) / length) * room);
        const thick = what === "running" ? 6 : 10;
        const kind = `bar bar-${what === "model" ? row.kind : what}`;
        const top = y + (ROW_PX - thick) / 2;
        parts.push(shape("rect", { x: x.toFixed(1), y: top, width: wide.toFixed(1), height: thick, rx: 3, class: kind }));
      }
    });
    const ruler = made.length * ROW_PX + 13;
    parts.push(shape("text", { x: NAME_PX, y: ruler, class: "ruler" }, "0"));
    const end = `${Math.round(length).toLocaleString("en")} ms`;
    parts.push(shape("text", { x: width - 2, y: ruler, class: "ruler last" }, end));
    this.picture.replaceChildren(...parts);
  }
}

function outcome(call) {
  if (call.state === "answered") return `answered ${call.detail} in ${Math.round(call.took)} ms`;
  return `${call.state}: ${call.detail}`;
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
