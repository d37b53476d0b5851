// Keeps a status page up to date: asks for its JSON, and when what is shown has changed, fetches the page and puts the
// changed parts in place. What the shopper is typing, and an opened "cancel", stay as they are.
const FIRST_MS = 2000;
const LONGEST_MS = 15000;
const REQUEST_MS_MAX = 10000;

const order = document.getElementById("order");
let pause = FIRST_MS;

// The reader's own way of writing times, if the page speaks the reader's language.
const language = document.documentElement.lang;
const customs = navigator.languages.find((known) => known.split("-")[0] === language) ?? language;

const localTimes = (root) => {
  const sameDay = { hour: "2-digit", minute: "2-digit" };
  const otherDay = { day: "numeric", month: "long", ...sameDay };
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    const today = moment.toDateString() === new Date().toDateString();
    time.textContent = moment.toLocaleString(customs, today ? sameDay : otherDay);
  }
};

const get = async (accept) => {
  const response = await fetch(location.pathname, {
    headers: { Accept: accept, "Accept-Language": language },
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(REQUEST_MS_MAX),
  });
  if (!response.ok) throw new Error(String(response.status));
  return response;
};

const keeps = (old, fresh) => old.dataset.live === "cancel" && old.querySelector("details[open]") && fresh?.querySelector("details");

const put = async () => {
  const fresh = new DOMParser().parseFromString(await (await get("text/html")).text(), "text/html");
  const next = fresh.getElementById("order");
  if (!next) throw new Error("no order on the page");
  for (const old of order.querySelectorAll("[data-live]")) {
    const part = next.querySelector(`[data-live="${old.dataset.live}"]`);
    if (keeps(old, part)) continue;
    const said = old.querySelector("#said");
    const saying = part?.querySelector("#said");
    if (said && saying) {
      // The live region itself has to stay, or screen readers do not read what changed in it.
      said.replaceChildren(...saying.childNodes);
      saying.replaceWith(said);
    }
    old.replaceChildren(...(part ? part.childNodes : []));
  }
  order.dataset.revision = next.dataset.revision;
  order.toggleAttribute("data-final", next.hasAttribute("data-final"));
  document.body.className = fresh.body.className;
  document.title = fresh.title;
  localTimes(order);
};

const look = async () => {
  try {
    const state = await (await get("application/json")).json();
    if (state.revision !== order.dataset.revision) {
      await put();
      pause = FIRST_MS;
    } else {
      pause = Math.min(pause * 1.4, LONGEST_MS);
    }
  } catch {
    pause = LONGEST_MS;
  }
  wait();
};

const wait = () => {
  if (order.hasAttribute("data-final")) return;
  if (document.hidden) document.addEventListener("visibilitychange", look, { once: true });
  else setTimeout(look, pause);
};

if (order) {
  localTimes(document);
  wait();
}
