// A turn on the page. Text from people, models and skills goes in as text nodes only, never as markup.

import { button, element } from "./dom.js";
import { Picture } from "./picture.js";

const STATES = { written: "writing", fired: "running", answered: "answered", failed: "failed", voided: "voided" };

export class TurnView {
  // actions: onApprove(approval, yes), onWhy(view), onTimeline(view), onRate(view, rating) -> whether it was taken
  constructor(turn, question, actions) {
    this.turn = turn;
    this.actions = actions;
    this.rating = "";
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
    this.picture = new Picture(() => this.actions.onTimeline(this));
    this.foot = element("div", "turn-foot");
    this.foot.hidden = true;
    this.why = button("Why this answer", "quiet", () => this.actions.onWhy(this));
    this.good = button("Good answer", "quiet rate", () => this.rate("good"));
    this.bad = button("Bad answer", "quiet rate", () => this.rate("bad"));
    this.foot.append(this.why, this.good, this.bad);
    this.root.append(
      this.asked, this.known, this.calls, this.picture.root, this.answer, this.approvals, this.end, this.foot,
    );
  }

  // What the person thinks of the answer; shown at once, taken back when the gateway refuses it.
  async rate(rating) {
    const before = this.rating;
    this.rated(rating);
    if (!(await this.actions.onRate(this, rating))) this.rated(before);
  }

  rated(rating) {
    this.rating = rating;
    this.good.setAttribute("aria-pressed", String(rating === "good"));
    this.bad.setAttribute("aria-pressed", String(rating === "bad"));
  }

  draw(now) {
    if (this.turn) this.picture.draw(this.turn, now);
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
      const choice = button(label, yes ? "send" : "quiet", () => {
        box.remove();
        this.actions.onApprove(approval, yes);
      });
      row.append(choice);
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
    this.picture.end(turn.calls.size > 0);
    this.foot.hidden = false;
    this.good.hidden = this.bad.hidden = !turn.text;
  }

  // Said by the gateway to this socket only: the turn could not be carried out, or not yet.
  fail(message) {
    this.end.textContent = message;
    this.end.dataset.status = "failed";
    this.end.hidden = false;
    this.answer.setAttribute("aria-busy", "false");
    this.caret.remove();
  }
}

function outcome(call) {
  if (call.state === "answered") return `answered ${call.detail} in ${Math.round(call.took)} ms`;
  return `${call.state}: ${call.detail}`;
}
