// The gateway over HTTP, for what is not a stream: the list of conversations and what was asked in them.

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
}
