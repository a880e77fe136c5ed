// The key of this page, kept in this module's memory alone, and how the service is asked with it.
import { $ } from "./dom.js";

const GONE = "The service does not know this key any more.";

export const needsKey = document.querySelector("meta[name=pad-keys]").content === "needed";
let key = "";
let whenOpen = () => {};

// Fetches with the key, and asks for a key again if the service does not know it: then there is no reply.
export async function fetchWithKey(path, { headers = {}, ...options } = {}) {
  const asked = key;
  const reply = await fetch(path, { cache: "no-store", ...options, headers: { ...headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) } });
  if (reply.status !== 401) return reply;
  if (asked === key) askForKey(GONE); // an older request says nothing of a newer key
  return null;
}

// The service's own words about a reply that is an error.
export async function refusal(reply) {
  const body = await reply.json().catch(() => null); // a proxy answers in HTML
  return body?.error?.message ?? `status ${reply.status}`;
}

export const isOpen = () => !$("open").hidden;

// Shows the page at once, or once there is a key; `then` runs each time.
export function begin(then) {
  whenOpen = then;
  if (needsKey) askForKey();
  else open();
}

function open() {
  $("asking").hidden = true;
  $("open").hidden = false;
  whenOpen();
}

function askForKey(problem = "") {
  key = "";
  $("key").value = "";
  $("key-problem").textContent = problem;
  $("asking").hidden = false;
  $("open").hidden = true;
  $("result").hidden = true;
  $("key").focus();
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  if (!/^[!-~]+$/.test(key)) return askForKey("This is no key: it holds a blank, or a character that no key has.");
  try {
    const reply = await fetch("v1/usage", { headers: { Authorization: `Bearer ${key}` }, cache: "no-store" });
    if (reply.status === 401) return askForKey("The service does not know this key.");
  } catch {
    $("key-problem").textContent = "The service does not answer. Try again.";
    return;
  }
  $("key").value = "";
  open();
});
