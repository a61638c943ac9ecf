// The socket to the gateway: keeps it up, with exponential backoff and full jitter, and goes on where it was cut.
//
// One conversation is followed at a time. Its `cursor` is the place of the last frame that was used, so that a new
// socket, on whichever gateway, begins right after it. Requests are repeatable by their `event_id`: each is sent again
// on a new socket until its turn's first frame is there. Closing the page cancels nothing.

const FIRST_MS = 250;
const LONGEST_MS = 8000;
const SILENT_MS = 30000; // a running turn that says nothing for so long may have lost its socket without a close
const FINAL_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);

export class Socket {
  // onFrame(frame) for every frame; onState("connecting" | "open" | "waiting" | "refused")
  constructor(key, onFrame, onState) {
    this.key = key;
    this.onFrame = onFrame;
    this.onState = onState;
    this.conversation = null;
    this.cursor = null;
    this.requests = new Map(); // event_id -> request, until its turn's first frame
    this.cancels = new Set(); // response ids that are to stop and have not ended
    this.attempt = 0;
    this.socket = null;
    this.timer = null;
    this.closed = false;
    this.heard = 0;
    this.wake = () => this.comeBack();
    addEventListener("online", this.wake);
    document.addEventListener("visibilitychange", this.wake);
  }

  open() {
    if (this.closed) return;
    clearTimeout(this.timer);
    this.onState("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/responses`, ["headstart", `headstart.key.${this.key}`]);
    this.socket = socket;
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.heard = performance.now();
      this.onState("open");
      if (this.conversation) this.sendAttach();
      for (const request of this.requests.values()) this.send(request);
      for (const response of this.cancels) this.send({ type: "response.cancel", response_id: response });
    };
    socket.onmessage = (message) => {
      this.heard = performance.now();
      this.attempt = 0;
      this.onFrame(JSON.parse(message.data));
    };
    socket.onclose = (event) => {
      if (this.socket !== socket || this.closed) return;
      this.socket = null;
      if (FINAL_CODES.has(event.code)) {
        this.onState("refused");
        return;
      }
      this.later(opened);
    };
  }

  later(opened) {
    this.onState("waiting", opened);
    const ceiling = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.attempt, 10));
    this.attempt += 1;
    this.timer = setTimeout(() => this.open(), Math.random() * ceiling);
  }

  // The network or the tab came back: try at once, and do not trust a socket that a running turn has left silent.
  comeBack() {
    if (this.closed || document.visibilityState === "hidden") return;
    if (!this.socket) {
      this.open();
    } else if (this.requests.size + this.cancels.size > 0 && performance.now() - this.heard > SILENT_MS) {
      this.reopen();
    }
  }

  reopen() {
    const old = this.socket;
    this.socket = null;
    if (old) old.close();
    this.open();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    removeEventListener("online", this.wake);
    document.removeEventListener("visibilitychange", this.wake);
    if (this.socket) this.socket.close(1000);
  }

  send(frame) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  // Follow a conversation after a cursor, or from its start; the one before is let go.
  follow(conversation, cursor) {
    if (this.conversation && this.conversation !== conversation) {
      this.send({ type: "session.detach", conversation: this.conversation });
    }
    this.conversation = conversation;
    this.cursor = cursor;
    if (conversation) this.sendAttach();
  }

  sendAttach() {
    this.send({ type: "session.attach", conversation: this.conversation, after: this.cursor || "start" });
  }

  submit(request) {
    this.requests.set(request.event_id, request);
    this.send(request);
  }

  began(eventId) {
    this.requests.delete(eventId);
  }

  cancel(response) {
    this.cancels.add(response);
    this.send({ type: "response.cancel", response_id: response });
  }

  ended(response) {
    this.cancels.delete(response);
  }
}
