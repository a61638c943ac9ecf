// The gateway over HTTP, for what is not a stream: conversations, what was asked, recalled and remembered, ratings.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Api {
  constructor(key) {
    this.key = key;
  }

  // The JSON of the answer. Throws Refused with the HTTP status, 0 when nobody answered.
  async call(method, path, body) {
    let answer;
    try {
      answer = await fetch(path, {
        method,
        headers: { authorization: `Bearer ${this.key}`, ...(body ? { "content-type": "application/json" } : {}) },
        body: body ? JSON.stringify(body) : undefined,
      });
    } catch {
      throw new Refused(0, "the gateway does not answer");
    }
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Refused(answer.status, (told.error && told.error.message) || `status ${answer.status}`);
    return told;
  }

  async conversations() {
    const { data } = await this.call("GET", "/v1/conversations?limit=50");
    return data.map((row) => ({ id: row.id, title: (row.metadata && row.metadata.title) || "" }));
  }

  rename(conversation, title) {
    return this.call("POST", `/v1/conversations/${encodeURIComponent(conversation)}`, { metadata: { title } });
  }

  remove(conversation) {
    return this.call("DELETE", `/v1/conversations/${encodeURIComponent(conversation)}`);
  }

  // What a turn was asked, as one text.
  async question(response) {
    const { data } = await this.call("GET", `/v1/responses/${encodeURIComponent(response)}/input_items?order=asc`);
    const said = data.filter((item) => item.type === "message" && item.role === "user");
    return said.map((item) => item.content.map((part) => part.text || "").join("")).join("\n");
  }
  // Which conversation a response belongs to.
  async conversationOf(response) {
    const told = await this.call("GET", `/v1/responses/${encodeURIComponent(response)}`);
    return told.conversation.id;
  }

  // rating: "good" | "bad"
  rate(response, rating) {
    return this.call("POST", `/v1/responses/${encodeURIComponent(response)}/feedback`, { rating });
  }

  // The turn on its time axis, from the log.
  timeline(response) {
    return this.call("GET", `/v1/responses/${encodeURIComponent(response)}/timeline`);
  }

  // What the turn was given of the past, and why.
  recalled(response) {
    return this.call("GET", `/v1/responses/${encodeURIComponent(response)}/recalled`);
  }

  async memories() {
    return (await this.call("GET", "/v1/memories?limit=100")).data;
  }

  async habits() {
    return (await this.call("GET", "/v1/habits")).data;
  }

  correctMemory(memory, text) {
    return this.call("POST", `/v1/memories/${encodeURIComponent(memory)}`, { text });
  }

  forgetMemory(memory) {
    return this.call("DELETE", `/v1/memories/${encodeURIComponent(memory)}`);
  }

  // correction: said instead of what was counted, "" for that; muted: never used.
  correctHabit(habit, correction, muted) {
    return this.call("POST", `/v1/habits/${encodeURIComponent(habit)}`, { correction, muted });
  }

  forgetHabit(habit) {
    return this.call("DELETE", `/v1/habits/${encodeURIComponent(habit)}`);
  }
}
