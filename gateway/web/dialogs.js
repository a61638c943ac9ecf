// The three questions that the page asks in a dialog: the key, a new title, and whether a conversation may go.

const $ = (id) => document.getElementById(id);

export class Dialogs {
  // onKey(key), onRename(conversation, title), onRemove(conversation): what the person answered.
  constructor({ onKey, onRename, onRemove }) {
    this.conversation = null; // the one that the open dialog is about
    $("ask-key").addEventListener("cancel", (event) => event.preventDefault());
    this.answers("ask-key", "key-form", () => onKey($("key").value.trim()));
    this.answers("rename", "rename-form", () => onRename(this.conversation, $("rename-to").value.trim()));
    this.answers("remove", "remove-form", () => onRemove(this.conversation));
    $("rename-cancel").addEventListener("click", () => $("rename").close());
    $("remove-cancel").addEventListener("click", () => $("remove").close());
  }

  answers(dialog, form, act) {
    $(form).addEventListener("submit", (event) => {
      event.preventDefault();
      $(dialog).close();
      act();
    });
  }

  // wrong: the key that was given is not known.
  askKey(wrong) {
    $("key-wrong").hidden = !wrong;
    $("key").value = "";
    if (!$("ask-key").open) $("ask-key").showModal();
  }

  askRename(conversation, title) {
    this.conversation = conversation;
    $("rename-to").value = title || "";
    $("rename").showModal();
  }

  askRemove(conversation, title) {
    this.conversation = conversation;
    $("remove-name").textContent = title || "Untitled";
    $("remove").showModal();
  }
}
