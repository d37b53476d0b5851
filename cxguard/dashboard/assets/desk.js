// Keeps figures fresh, puts times into the reader's own zone, and says when a list or an order has changed. It replaces
// figures only, never a list or a form: what somebody is typing or selecting stays as it is.
const POLL_MS = 5000;
const REQUEST_MS_MAX = 10000;

const page = document.querySelector("[data-live-url]");
const changed = document.getElementById("changed");

const localTimes = (root) => {
  const today = new Date().toDateString();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    const sameDay = moment.toDateString() === today;
    time.textContent = sameDay
      ? moment.toLocaleTimeString([], { ...clock, second: "2-digit" })
      : moment.toLocaleString([], { day: "numeric", month: "short", ...clock });
    time.title = moment.toISOString();
  }
  const zone = document.getElementById("zone");
  if (zone) zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
};

const say = (words, link) => {
  if (!changed || changed.dataset.said === words) return;
  changed.dataset.said = words;
  changed.replaceChildren(words);
  if (link) {
    const again = document.createElement("a");
    again.href = location.pathname;
    again.textContent = link;
    changed.append(" ", again);
  }
};

const put = (texts) => {
  for (const place of page.querySelectorAll("[data-live]")) {
    const text = texts[place.dataset.live];
    if (text === undefined || place.textContent === text) continue;
    place.textContent = text;
    const around = place.closest("[data-zero]");
    around?.toggleAttribute("hidden", (text === "0") === (around.dataset.zero === "hide"));
  }
  if (texts.unknown !== undefined) {
    const title = document.title.replace(/^\(\d+\) /, "");
    document.title = texts.unknown === "0" ? title : `(${texts.unknown}) ${title}`;
  }
};

const look = async () => {
  const response = await fetch(page.dataset.liveUrl, {
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout(REQUEST_MS_MAX),
  });
  if (!response.ok) throw new Error(String(response.status));
  const news = await response.json();
  if (news.texts) put(news.texts);
  if (news.mark !== page.dataset.mark) say(changed.dataset.words, changed.dataset.link);
  else say("", "");
};

const poll = async () => {
  if (!document.hidden) {
    try {
      await look();
    } catch {
      say("The desk does not answer just now: what you see may be old.", "");
    }
  }
  setTimeout(poll, POLL_MS);
};

localTimes(document);
if (page) setTimeout(poll, POLL_MS);
