// The drawer: what was recalled for an answer and why, and everything that is remembered; to see, correct and forget.

import { button, element } from "./dom.js";

const LAYERS = { conversation: "said", episode: "summary", fact: "fact", procedure: "habit" };
const STATES = { superseded: "corrected since", erased: "forgotten since", muted: "muted since" };
const day = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

export class Drawer {
  // api(): the gateway, as long as a key is known. onOpen(conversation): the person wants to see where something was said.
  constructor(root, api, onOpen) {
    this.root = root;
    this.api = api;
    this.onOpen = onOpen;
    this.title = root.querySelector("h2");
    this.body = root.querySelector(".drawer-body");
    this.told = root.querySelector(".drawer-told");
    this.asked = 0; // which question's answer is wanted: an older one that comes late is dropped
    this.from = null; // what had the focus
    root.querySelector(".drawer-close").addEventListener("click", () => this.close());
  }

  get shown() {
    return !this.root.hidden;
  }

  close() {
    if (!this.shown) return;
    this.asked += 1;
    this.root.hidden = true;
    this.body.replaceChildren();
    if (this.from) this.from.focus();
  }

  // What one answer was given of the past.
  recalled(response) {
    return this.show("Why this answer", async () => {
      const told = await this.api().recalled(response);
      const took = `looked up in ${ms(told.took_ms)}, embedded in ${ms(told.embed_ms)}`;
      const parts = [element("p", "lead", `${count(told.items.length, "memory", "memories")}, ${took}; ` +
        `${count(told.history_messages, "message", "messages")} of this conversation.`)];
      if (told.summary) parts.push(section("Said before, in short", [element("p", "quoted", told.summary)]));
      parts.push(section("Recalled", told.items.map((item) => this.card(item, memoryActions(this.api, item)))));
      if (told.habits.length) {
        parts.push(section("Your habits", told.habits.map((item) => this.card(item, habitActions(this.api, item)))));
      }
      if (told.examples.length) parts.push(section("Answers you rated good", told.examples.map(exampleCard)));
      return parts;
    });
  }

  // Everything that is remembered of the person.
  everything() {
    return this.show("Memory", async () => {
      const [memories, habits] = await Promise.all([this.api().memories(), this.api().habits()]);
      const cards = habits.map((habit) => this.card(
        { ...habit, layer: "procedure", at_ms: habit.last_at_ms, state: habit.muted ? "muted" : "holds", why: seen(habit) },
        habitActions(this.api, habit),
      ));
      return [
        section("Your habits", cards, "Nothing yet: what you do again and again will be listed here."),
        section("Remembered", memories.map((memory) => this.card(
          { ...memory, state: "holds", why: memory.confidence < 1 ? `confidence ${memory.confidence}` : "" },
          memoryActions(this.api, memory),
        )), "Nothing yet."),
      ];
    });
  }

  async show(title, load) {
    const asked = (this.asked += 1);
    if (!this.shown) this.from = document.activeElement;
    this.root.hidden = false;
    this.title.textContent = title;
    this.tell("");
    this.body.replaceChildren(element("p", "lead", "Looking …"));
    this.root.querySelector(".drawer-close").focus();
    try {
      const parts = await load();
      if (asked === this.asked) this.body.replaceChildren(...parts);
    } catch (error) {
      if (asked === this.asked) this.body.replaceChildren(element("p", "lead", error.message));
    }
  }

  tell(text) {
    this.told.textContent = text;
  }

  // One memory or habit. actions: {correct(text), forget(), mute()} -> what to say; mute only for habits.
  card(item, actions) {
    const root = element("li", "memory");
    root.dataset.memory = item.id;
    root.dataset.state = item.state;
    const head = element("div", "memory-head");
    head.append(element("span", "layer", LAYERS[item.layer] || item.layer));
    if (item.about) head.append(element("span", "about", `for ${item.about}`));
    if (item.score !== undefined) head.append(element("span", "score", item.score.toFixed(2)));
    const text = element("p", "memory-text", item.text);
    const state = element("p", "memory-state", STATES[item.state] || "");
    root.append(head, text, state, arms(item));
    const row = element("div", "memory-row");
    const when = element("span", "when", item.at_ms > 0 ? day.format(item.at_ms) : "");
    row.append(when);
    if (item.response_id) row.append(button("Where it was said", "link", () => this.open(item.response_id)));
    root.append(row);
    if (item.state === "erased" || item.state === "superseded") return root;
    const done = (saying) => {
      root.dataset.state = "changed";
      state.textContent = saying;
      state.tabIndex = -1;
      row.replaceChildren(when);
      state.focus(); // the button that had it is gone
      this.tell(saying);
    };
    const attempt = async (act) => {
      try {
        done(await act());
      } catch (error) {
        this.tell(error.message);
      }
    };
    row.append(button("Correct", "link", () => this.edit(root, row, item.text, (said) => attempt(() => actions.correct(said)))));
    if (actions.mute) row.append(button("Mute", "link", () => attempt(actions.mute)));
    row.append(button("Forget", "link danger-link", () => sure(row, () => attempt(actions.forget))));
    return root;
  }

  edit(root, row, text, save) {
    const form = element("form", "memory-form");
    const label = element("label", "hidden", "What is so instead");
    const field = element("textarea", "", "");
    field.id = `edit-${root.dataset.memory}`;
    label.htmlFor = field.id;
    field.maxLength = 600;
    field.rows = 3;
    field.value = text;
    const buttons = element("div", "row");
    const back = () => {
      form.remove();
      row.hidden = false;
    };
    const submit = element("button", "send", "Save");
    submit.type = "submit";
    buttons.append(button("Cancel", "quiet", back), submit);
    form.append(label, field, buttons);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const said = field.value.trim();
      back();
      if (said && said !== text) save(said);
    });
    row.hidden = true;
    root.append(form);
    field.focus();
  }

  async open(response) {
    try {
      const conversation = await this.api().conversationOf(response);
      this.close();
      this.onOpen(conversation, response);
    } catch (error) {
      this.tell(error.message);
    }
  }
}

function memoryActions(api, item) {
  return {
    correct: async (text) => {
      await api().correctMemory(item.id, text);
      return `Noted: ${text}`;
    },
    forget: async () => {
      await api().forgetMemory(item.id);
      return "Forgotten.";
    },
  };
}

function habitActions(api, item) {
  return {
    correct: async (text) => {
      await api().correctHabit(item.id, text, false);
      return `Noted: ${text}`;
    },
    mute: async () => {
      await api().correctHabit(item.id, "", true);
      return "Muted: it is not used any more.";
    },
    forget: async () => {
      await api().forgetHabit(item.id);
      return "Forgotten; counting begins anew.";
    },
  };
}

// The terms of a score, each with a bar; the rest of why it was recalled as words.
function arms(item) {
  const list = element("ul", "arms");
  const terms = item.terms || [];
  for (const { name, value } of terms) {
    const row = element("li", "arm");
    const meter = element("meter", "", "");
    meter.max = 1;
    meter.value = Math.max(0, Math.min(1, value));
    meter.setAttribute("aria-label", `${name} ${value}`);
    row.append(element("span", "arm-name", name), meter, element("span", "arm-value", value.toFixed(2)));
    list.append(row);
  }
  const named = new Set(terms.map(({ name }) => name));
  const rest = (item.why || "").split(", ").filter((term) => term && !named.has(term.replace(/ [^ ]*$/, "")));
  if (rest.length) list.append(element("li", "arm-rest", rest.join(", ")));
  return list;
}

function exampleCard(example) {
  const root = element("li", "memory");
  const head = element("div", "memory-head");
  head.append(element("span", "layer", "example"), element("span", "score", example.score.toFixed(2)));
  root.append(head, element("p", "memory-text", example.question), element("p", "quoted", example.answer));
  return root;
}

function section(title, cards, nothing = "Nothing was near enough.") {
  const root = element("section", "drawer-section");
  root.append(element("h3", "", title));
  if (!cards.length) root.append(element("p", "lead", nothing));
  else if (cards[0].tagName === "LI") {
    const list = element("ul", "memories");
    list.append(...cards);
    root.append(list);
  } else root.append(...cards);
  return root;
}

// Asks once more, in place of the buttons.
function sure(row, act) {
  const before = [...row.childNodes];
  const yes = button("Forget it", "link danger-link", act);
  row.replaceChildren(element("span", "when", "Erased for good?"), yes, button("Keep", "link", () => row.replaceChildren(...before)));
  yes.focus();
}

function seen(habit) {
  return `${habit.taken} times${habit.declined ? `, declined ${habit.declined}` : ""}${habit.counts ? "" : ", not used yet"}`;
}

function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}

function ms(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}
