// What one turn did, folded from its frames. No DOM, no clock: the same frames give the same turn.

export const TERMINAL = new Set(["response.completed", "response.incomplete", "response.failed"]);

export class Turn {
  constructor(response) {
    this.response = response;
    this.next = 0; // sequence_number of the next frame
    this.status = "in_progress";
    this.reason = "";
    this.error = "";
    this.text = "";
    this.agent = undefined; // undefined: not decided yet, null: out of scope
    this.recalled = [];
    this.looked = []; // {name, began, ended}: what was looked up before a model was asked
    this.steps = []; // {name, model, began, first, ended, tokens}; first: when its first token was there
    this.calls = new Map(); // number -> call
    this.approvals = [];
    this.began = -1; // wall clock ms
    this.ended = -1;
    this.latest = -1; // newest time any frame told
    this.summary = null;
  }

  get over() {
    return this.status !== "in_progress";
  }

  call(frame) {
    let call = this.calls.get(frame.call);
    if (!call) {
      call = {
        number: frame.call, skill: frame.skill || "", written: "", opened: -1, closed: -1, fired: -1, ended: -1,
        token: -1, early: false, firedAt: -1, effect: "", firings: 0, state: "written", detail: "", result: "",
        took: 0, repairs: [], hidden: -1, client: false,
      };
      this.calls.set(frame.call, call);
    }
    return call;
  }

  // Folds the next frame; gives what changed: "answer" | "call" | "steps" | "end" | "".
  feed(frame) {
    const at = frame.at_ms;
    if (Number.isInteger(at)) {
      if (this.began < 0) this.began = at;
      this.latest = Math.max(this.latest, at);
    }
    const kind = frame.type;
    if (kind === "response.output_text.delta") {
      this.text += frame.delta;
      return "answer";
    }
    if (kind.startsWith("headstart.tool.")) return this.tool(kind.slice("headstart.tool.".length), frame);
    switch (kind) {
      case "headstart.route.decided":
        this.agent = frame.agent;
        this.look("route", frame);
        return "steps";
      case "headstart.recalled":
        this.recalled = frame.items;
        this.look("recall", frame);
        return "steps";
      case "headstart.skills.discovered":
        this.look("discover", frame);
        return "steps";
      case "headstart.step.started":
        this.steps.push({
          name: frame.step, epoch: frame.epoch, model: frame.model, began: at, first: -1, ended: -1, tokens: 0,
        });
        return "steps";
      case "headstart.step.finished":
        for (const step of this.steps) {
          if (step.name === frame.step && step.epoch === frame.epoch) {
            step.ended = at;
            step.first = frame.first_token_ms > 0 ? step.began + frame.first_token_ms : -1;
            step.tokens = frame.completion_tokens;
          }
        }
        return "steps";
      case "headstart.approval.asked":
        this.approvals.push({ request: frame.request, skill: frame.skill, arguments: frame.arguments });
        return "steps";
      case "headstart.timeline":
        this.summary = frame;
        this.ended = at;
        this.began = at - frame.took_ms;
        return "steps";
    }
    if (TERMINAL.has(kind)) {
      const extra = frame.response.headstart || {};
      this.status = frame.response.status;
      this.reason = extra.reason || extra.awaiting || "";
      if (frame.response.error) this.error = frame.response.error.message;
      return "end";
    }
    return "";
  }

  look(name, frame) {
    const began = Math.max(this.began, frame.at_ms - (frame.took_ms || 0));
    this.looked.push({ name, began, ended: frame.at_ms });
  }

  tool(what, frame) {
    const call = this.call(frame);
    switch (what) {
      case "opened":
        call.skill = frame.skill;
        call.opened = frame.at_ms;
        break;
      case "arguments":
        call.written += frame.delta;
        break;
      case "closed":
        call.closed = frame.at_ms;
        call.repairs = frame.repairs || [];
        if (!call.written) call.written = JSON.stringify(frame.arguments);
        break;
      case "fired":
        call.skill = frame.skill;
        call.fired = frame.at_ms;
        call.ended = -1;
        call.token = frame.fired_at_token;
        call.early = frame.while_written;
        call.firedAt = call.early ? call.written.length : -1;
        call.effect = frame.effect;
        call.firings += 1;
        call.state = "fired";
        break;
      case "answered":
        call.ended = frame.at_ms;
        call.took = frame.took_ms;
        call.state = "answered";
        call.detail = String(frame.status);
        call.result = frame.result;
        break;
      case "failed":
        call.ended = frame.at_ms;
        call.took = frame.took_ms;
        call.state = "failed";
        call.detail = frame.in_doubt ? `${frame.code}, in doubt` : frame.code;
        break;
      case "voided":
        call.ended = frame.at_ms;
        call.state = "voided";
        call.detail = frame.reason;
        break;
      case "saved":
        call.hidden = frame.hidden_ms;
        break;
    }
    return "call";
  }
}

// The rows of a turn's picture: {name, kind, spans: [[from, to, what]]} in ms since it began. now: ms of wall clock
// that open spans reach to.
export function rows(turn, now) {
  const until = turn.ended >= 0 ? turn.ended : Math.max(now, turn.latest);
  const since = (at) => at - turn.began;
  const planEnd = Math.max(-1, ...turn.steps.filter((step) => step.name === "plan").map((step) => step.ended));
  const made = turn.looked.map((one) => ({
    name: one.name, kind: "looked", began: one.began, spans: [[since(one.began), since(one.ended), "looking"]],
  }));
  for (const step of turn.steps) {
    const first = step.first >= 0 ? step.first : step.began;
    const spans = [[since(first), since(step.ended >= 0 ? step.ended : until), "model"]];
    if (first > step.began) spans.unshift([since(step.began), since(first), "waiting"]);
    made.push({ name: step.name, kind: step.name, began: step.began, spans });
  }
  for (const call of turn.calls.values()) {
    const spans = [];
    if (call.opened >= 0) {
      const end = call.closed >= 0 ? call.closed : planEnd >= 0 ? planEnd : until;
      spans.push([since(call.opened), since(end), "written"]);
    }
    if (call.fired >= 0) spans.push([since(call.fired), since(call.ended >= 0 ? call.ended : until), "running"]);
    made.push({ name: call.skill, kind: "call", began: call.opened >= 0 ? call.opened : call.fired, spans });
  }
  made.sort((one, other) => one.began - other.began);
  return { rows: made, length: Math.max(1, since(until)) };
}
