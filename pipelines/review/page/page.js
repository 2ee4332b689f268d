// Keys, the time a person takes, further pieces of long texts, and answers that survive a server that is away.
// Text from documents becomes text nodes only; the policy (require-trusted-types-for) forbids anything else.
"use strict";

const byId = (id) => document.getElementById(id);

function stored(storage, key, value) {
  try {
    if (value === undefined) return storage.getItem(key);
    storage.setItem(key, value);
  } catch {
    // A browser that keeps nothing: the page works without.
  }
  return null;
}

// Keys

const toggle = byId("keys");
toggle.checked = stored(localStorage, "review keys") !== "off";
toggle.addEventListener("change", () => stored(localStorage, "review keys", toggle.checked ? "on" : "off"));

function keyOf(event) {
  if (event.key === " ") return "Space";
  // On a keyboard of another script, the key in the same place.
  const letter = /^Key([A-Z])$/.exec(event.code);
  return /^[\x21-\x7e]$/.test(event.key) || !letter ? event.key.toLowerCase() : letter[1].toLowerCase();
}

document.addEventListener("keydown", (event) => {
  const writing = event.target.matches("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && writing) event.target.blur();
  if (!toggle.checked || writing || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  const key = keyOf(event);
  if (byId("help").matches(":popover-open") && key !== "?") return;
  // Space belongs to what has the focus, where that can be pressed by it.
  if (key === "Space" && event.target.matches("button, input")) return;
  const found = [...document.querySelectorAll("[data-key]")].find((e) => e.dataset.key.split(" ").includes(key));
  if (!found) return;
  event.preventDefault();
  found.click();
});

// Enter goes on, too; `autofocus` would scroll a long text away from its beginning.
byId("next")?.focus({ preventScroll: true });

// Time on the screen, kept over a reload; and the comment with it

const answer = document.querySelector("form[data-task]");
let seconds = () => 0;
if (answer) {
  const own = `${answer.action} ${answer.dataset.task}`;
  let before = Number(stored(sessionStorage, `${own} seconds`)) || 0;
  let since = document.hidden ? null : performance.now();
  seconds = () => before + (since === null ? 0 : (performance.now() - since) / 1000);
  const pause = () => {
    before = seconds();
    since = document.hidden ? null : performance.now();
    stored(sessionStorage, `${own} seconds`, String(before));
  };
  document.addEventListener("visibilitychange", pause);
  addEventListener("pagehide", pause);
  const comment = answer.elements.comment;
  comment.value ||= stored(sessionStorage, `${own} comment`) ?? "";
  comment.addEventListener("input", () => stored(sessionStorage, `${own} comment`, comment.value));
  // Enter in the comment would press the first button, and so give an answer that nobody chose.
  comment.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    comment.blur();
  });
}

// Sending

let busy = false;

function trouble(words) {
  const place = byId("trouble");
  place.textContent = words;
  place.hidden = !words;
}

async function send(form, button) {
  const fields = new URLSearchParams(new FormData(form));
  if (button?.name) fields.set(button.name, button.value);
  if (fields.has("seconds")) fields.set("seconds", seconds().toFixed(1));
  const response = await fetch(form.action, { method: "POST", body: fields, headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`the server says ${response.status}`);
  return (await response.json()).to;
}

for (const form of document.querySelectorAll("form[data-send]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    document.body.setAttribute("aria-busy", "true");
    trouble("");
    try {
      location.assign(await send(form, event.submitter));
    } catch (error) {
      busy = false;
      document.body.removeAttribute("aria-busy");
      const why = error instanceof TypeError ? "the server does not answer" : error.message;
      trouble(`Not kept: ${why}. Press the same key again when it is back; nothing that was kept is lost.`);
    }
  });
}

// A page that comes back out of the browser's memory may show what is no longer so.
addEventListener("pageshow", (event) => event.persisted && location.reload());

// Long texts

function nodeOf([text, name]) {
  if (name === null) return document.createTextNode(text);
  const sign = document.createElement("span");
  sign.className = "sign";
  sign.title = name;
  sign.textContent = text;
  return sign;
}

byId("more")?.addEventListener("click", async (event) => {
  event.preventDefault();
  const more = event.currentTarget;
  if (more.ariaBusy === "true") return;
  more.ariaBusy = "true";
  try {
    const from = new URL(more.href).searchParams.get("from");
    const response = await fetch(`${more.dataset.text}?from=${from}`);
    if (!response.ok) throw new Error(`the server says ${response.status}`);
    const piece = await response.json();
    byId("text").append(...piece.runs.map(nodeOf));
    if (piece.next === null) more.parentElement.remove();
    else more.href = `?from=${piece.next}`;
    trouble("");
  } catch (error) {
    trouble(`The rest of the text did not come: ${error.message}. Try again.`);
  } finally {
    more.ariaBusy = "false";
  }
});
