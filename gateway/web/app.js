// The chat page: one socket, one conversation at a time, its turns as they stream.

import { Api, Refused } from "./api.js";
import { Dialogs } from "./dialogs.js";
import { element } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Socket } from "./socket.js";
import { TERMINAL, Turn } from "./turn.js";
import { TurnView } from "./view.js";

const KEY = "headstart.key";
const THEME = "headstart.theme";
const CONVERSATION = /^#conv_[0-9a-f]{36}$/;
const DRAW_MS = 120; // how often the picture of a running turn is drawn
const $ = (id) => document.getElementById(id);

const page = {
  api: null,
  socket: null,
  conversation: null, // id, null for one that the next question opens
  titles: new Map(), // conversation -> title
  views: new Map(), // response -> TurnView
  asked: new Map(), // event_id -> {view, response}
  healing: false,
  clock: { at: 0, seen: 0 }, // newest wall clock time the log told, and when it came
};

// What a person does with a turn that is shown.
const actions = {
  onApprove: approve,
  onWhy: (view) => drawer.recalled(view.turn.response),
  onTimeline: (view) => attempt(async () => view.picture.drawAxis(await page.api.timeline(view.turn.response))),
  onRate: (view, rating) => attempt(() => page.api.rate(view.turn.response, rating)),
};
const drawer = new Drawer($("drawer"), () => page.api, show);
const dialogs = new Dialogs({ onKey: connect, onRename: rename, onRemove: remove });

// -- frames ----------------------------------------------------------------------------------------------------------

function onFrame(frame) {
  switch (frame.type) {
    case "headstart.accepted":
      return accepted(frame);
    case "session.attached":
      page.healing = false;
      return;
    case "session.snapshot":
      return snapshot(frame);
    case "error":
      return failed(frame);
    case "headstart.conversation.renamed":
      page.titles.set(frame.conversation, frame.title);
      return listed();
  }
  if (frame.response_id) turned(frame);
}

function accepted(frame) {
  const waiting = page.asked.get(frame.event_id);
  if (!waiting) return page.socket.began(frame.event_id); // asked in a conversation that is no longer shown
  waiting.response = frame.response_id;
  if (!page.views.has(frame.response_id)) page.views.set(frame.response_id, waiting.view);
  if (page.conversation === null && waiting.view.root.isConnected) {
    page.conversation = frame.conversation;
    address();
    if (!page.titles.has(frame.conversation)) page.titles.set(frame.conversation, waiting.view.asked.textContent);
    listed();
    // From before this turn on, so that what other devices ask here is seen too; what came already is dropped.
    const cursor = frame.cursor && frame.cursor !== "start" ? frame.cursor : null;
    page.socket.follow(frame.conversation, cursor);
  }
  if (waiting.stopped) page.socket.cancel(frame.response_id);
  buttons();
}

// A frame of a turn. Frames of a response are numbered without holes: an older one is a repeat, a later one says that
// others are missing and have to be asked for again.
function turned(frame) {
  const response = frame.response_id;
  if (frame.type === "response.created" && frame.response.conversation.id !== page.conversation) {
    if (page.conversation !== null || !page.views.has(response)) return;
  }
  let view = page.views.get(response);
  if (!view) {
    if (frame.type !== "response.created") return;
    view = new TurnView(new Turn(response), "", actions);
    page.views.set(response, view);
    $("transcript").append(view.root);
    page.api.question(response).then((text) => asked(view, text), (error) => notice(error.message));
  }
  const turn = view.turn || (view.turn = new Turn(response));
  if (frame.sequence_number < turn.next) return;
  if (frame.sequence_number > turn.next) {
    if (!page.healing && page.conversation) {
      page.healing = true;
      page.socket.sendAttach();
    }
    return;
  }
  turn.next += 1;
  page.socket.cursor = frame.cursor;
  if (frame.sequence_number === 0) begun(response);
  if (Number.isInteger(frame.at_ms)) page.clock = { at: frame.at_ms, seen: performance.now() };
  const following = atEnd();
  view.update(turn.feed(frame), frame);
  announce(turn, frame);
  if (TERMINAL.has(frame.type)) {
    page.socket.ended(response);
    buttons();
  }
  if (following) toEnd();
}

// What a turn of another device, or of before a reload, was asked; the first one names the conversation here.
function asked(view, text) {
  view.ask(text);
  if (!page.titles.has(page.conversation) && view.root.isConnected) {
    page.titles.set(page.conversation, text);
    listed();
  }
}

function begun(response) {
  for (const [eventId, waiting] of page.asked) {
    if (waiting.response !== response) continue;
    page.socket.began(eventId);
    if (waiting.stopped) page.socket.cancel(response);
    page.asked.delete(eventId);
  }
}

function failed(frame) {
  const error = frame.error || frame;
  const waiting = page.asked.get(frame.event_id);
  if (waiting) {
    waiting.view.fail(error.message);
    page.socket.began(frame.event_id);
    page.asked.delete(frame.event_id);
    buttons();
  } else if (error.code !== "response_already_completed" && error.code !== "not_attached") {
    notice(error.message);
  }
}

// The log of this conversation has aged out: what memory kept of it is all there is.
function snapshot(frame) {
  const kept = element("section", "kept");
  for (const message of frame.messages) {
    if (message.role === "user") kept.append(element("p", "question", message.text));
    else if (message.role === "assistant") kept.append(element("div", "answer", message.text));
  }
  $("transcript").prepend(kept);
}

// -- what a person does ----------------------------------------------------------------------------------------------

function ask(input, shown) {
  const eventId = crypto.randomUUID ? crypto.randomUUID() : Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-");
  const request = { type: "response.create", event_id: eventId, input, on_busy: "enqueue" };
  if (page.conversation) request.conversation = page.conversation;
  const view = new TurnView(null, shown, actions);
  page.asked.set(eventId, { view, response: null, stopped: false });
  $("transcript").append(view.root);
  notice("");
  page.socket.submit(request);
  buttons();
  toEnd();
}

function approve(approval, yes) {
  const answer = { type: "mcp_approval_response", approval_request_id: approval.request, approve: yes };
  ask([answer], yes ? `Approved: ${approval.skill}` : `Declined: ${approval.skill}`);
}

function stop() {
  for (const waiting of page.asked.values()) {
    waiting.stopped = true;
    if (waiting.response) page.socket.cancel(waiting.response);
  }
  for (const [response, view] of page.views) {
    if (view.turn && !view.turn.over) page.socket.cancel(response);
  }
}

// Whether it was done; what went wrong is shown.
async function attempt(act) {
  try {
    await act();
    return true;
  } catch (error) {
    notice(error.message);
    return false;
  }
}

function show(conversation) {
  page.conversation = conversation;
  address();
  page.views.clear();
  page.asked.clear();
  page.healing = false;
  $("transcript").replaceChildren();
  notice("");
  page.socket.follow(conversation, null);
  listed();
  buttons();
  $("side").classList.remove("open");
  $("menu").setAttribute("aria-expanded", "false");
  $("question").focus();
}

// -- what is shown around it -----------------------------------------------------------------------------------------

function listed() {
  const rows = [...page.titles].map(([id, title]) => {
    const row = element("li", "");
    const open = element("button", "open", title || "Untitled");
    open.type = "button";
    if (id === page.conversation) open.setAttribute("aria-current", "true");
    open.addEventListener("click", () => show(id));
    const rename = element("button", "icon", "✎");
    rename.type = "button";
    rename.setAttribute("aria-label", `Rename ${title || "untitled"}`);
    rename.addEventListener("click", () => dialogs.askRename(id, title));
    const remove = element("button", "icon", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", `Delete ${title || "untitled"}`);
    remove.addEventListener("click", () => dialogs.askRemove(id, title));
    row.append(open, rename, remove);
    return row;
  });
  $("list").replaceChildren(...rows);
  $("title").textContent = page.titles.get(page.conversation) || "New conversation";
}

// The conversation stands in the address, so that a reload and a link come back to it.
function address() {
  history.replaceState(null, "", page.conversation ? `#${page.conversation}` : location.pathname);
}

function running() {
  if (page.asked.size) return true;
  return [...page.views.values()].some((view) => view.turn && !view.turn.over);
}

function buttons() {
  $("stop").hidden = !running();
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

function announce(turn, frame) {
  const call = frame.call === undefined ? null : turn.calls.get(frame.call);
  const said = {
    "headstart.tool.fired": () => `${call.skill} ${call.early ? "runs while it is still written" : "runs"}`,
    "headstart.tool.answered": () => `${call.skill} answered`,
    "headstart.tool.failed": () => `${call.skill} failed`,
    "response.incomplete": () => (turn.status === "cancelled" ? "stopped" : "the answer is incomplete"),
    "response.failed": () => "the question failed",
  }[frame.type];
  if (said) $("announce").textContent = said();
}

function atEnd() {
  const pane = $("transcript");
  return pane.scrollHeight - pane.scrollTop - pane.clientHeight < 80;
}

function toEnd() {
  const pane = $("transcript");
  pane.scrollTop = pane.scrollHeight;
}

function onState(state) {
  const shown = { connecting: "connecting", open: "connected", waiting: "reconnecting", refused: "refused" }[state];
  $("state").textContent = shown;
  $("state").dataset.state = state;
  if (state === "waiting" || state === "refused") check();
}

// A browser does not say why a socket was refused; plain HTTP does.
async function check() {
  try {
    await page.api.conversations();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askKey(true);
  }
}

// -- dialogs ---------------------------------------------------------------------------------------------------------

function askKey(wrong) {
  if (page.socket) page.socket.close();
  drawer.close();
  sessionStorage.removeItem(KEY);
  dialogs.askKey(wrong);
}

async function rename(conversation, title) {
  await attempt(async () => {
    await page.api.rename(conversation, title);
    page.titles.set(conversation, title);
    listed();
  });
}

async function remove(conversation) {
  await attempt(async () => {
    await page.api.remove(conversation);
    page.titles.delete(conversation);
    if (conversation === page.conversation) show(null);
    else listed();
  });
}

// -- start -----------------------------------------------------------------------------------------------------------

async function connect(key) {
  sessionStorage.setItem(KEY, key);
  page.api = new Api(key);
  try {
    for (const { id, title } of await page.api.conversations()) page.titles.set(id, title);
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) return askKey(true);
    notice(error.message);
  }
  page.socket = new Socket(key, onFrame, onState);
  page.socket.open();
  show(CONVERSATION.test(location.hash) ? location.hash.slice(1) : null);
}

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light" : "Dark";
  $("theme").setAttribute("aria-pressed", String(dark));
}

function listen() {
  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("question").value.trim();
    if (!text || !page.socket) return;
    $("question").value = "";
    ask(text, text);
  });
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("composer").requestSubmit();
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (drawer.shown) drawer.close();
    else stop();
  });
  $("stop").addEventListener("click", stop);
  $("new").addEventListener("click", () => show(null));
  $("forget").addEventListener("click", () => askKey(false));
  $("memory").addEventListener("click", () => drawer.everything());
  $("menu").addEventListener("click", () => {
    const open = $("side").classList.toggle("open");
    $("menu").setAttribute("aria-expanded", String(open));
  });
  $("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    localStorage.setItem(THEME, dark ? "dark" : "light");
    theme(dark);
  });
  setInterval(() => {
    const now = page.clock.at + (performance.now() - page.clock.seen);
    for (const view of page.views.values()) if (view.turn && !view.turn.over) view.draw(now);
  }, DRAW_MS);
}

function start() {
  const kept = localStorage.getItem(THEME);
  theme(kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  listen();
  const given = new URLSearchParams(location.search).get("key");
  if (given) history.replaceState(null, "", location.pathname + location.hash);
  const key = given || sessionStorage.getItem(KEY);
  if (key) connect(key);
  else askKey(false);
}

start();
