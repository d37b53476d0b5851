// What a single-page shop has to do: one key for each basket, read `money`, follow `status_url`.

const RETRIES_MAX = 3;
const PAUSE_MS = 1000;
const FOLLOW_MS = 2000;

const element = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// The key belongs to the basket, not to the click: a reload, a second click and a retry all send the same one.
function keyOf(basketId) {
  const name = `pay:${basketId}`;
  const key = sessionStorage.getItem(name) ?? crypto.randomUUID();
  sessionStorage.setItem(name, key);
  return key;
}

const forgetKey = (basketId) => sessionStorage.removeItem(`pay:${basketId}`);

// A connection that broke says nothing about the money: send the very same once more.
async function send(basket, source) {
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": keyOf(basket.basket_id) },
    body: JSON.stringify({ basket_id: basket.basket_id, amount_minor: basket.amount_minor, currency: basket.currency, source }),
  };
  for (let tries = 1; ; tries += 1) {
    try {
      const response = await fetch("/api/pay", request);
      return { status: response.status, ...(await response.json()) };
    } catch (error) {
      if (tries === RETRIES_MAX) return { money: "unknown", title: "We cannot reach the shop. Do not pay again elsewhere; try here in a moment." };
      await pause(PAUSE_MS * tries);
    }
  }
}

// `money` decides, never the status alone.
function tell(answer) {
  element("said").textContent = [answer.title, answer.detail].filter(Boolean).join(". ");
  element("said").dataset.money = answer.money ?? "";
  element("status").hidden = !answer.status_url;
  if (answer.status_url) element("status").href = answer.status_url;
  // Unknown, and nothing to follow: pressing again sends the same key, which charges nothing twice.
  element("pay").hidden = !["not_charged", "unknown"].includes(answer.money) || answer.order_saved === true;
}

async function follow(url) {
  for (;;) {
    await pause(FOLLOW_MS);
    const response = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!response?.ok) continue;
    const answer = { ...(await response.json()), status_url: url };
    tell(answer);
    if (answer.final) return answer;
  }
}

async function pay(basket, source) {
  const answer = await send(basket, source);
  tell(answer);
  const last = answer.order_saved && answer.status_url ? await follow(answer.status_url) : answer;
  // Surely not charged, and over: the next try is another one (another card, say), under a key of its own.
  if (last.money === "not_charged" && last.safe_to_retry) forgetKey(basket.basket_id);
}

const basket = await (await fetch("/api/basket")).json();
element("basket").textContent = `${basket.text}: ${(basket.amount_minor / 100).toFixed(2)} ${basket.currency}`;
element("pay").addEventListener("submit", (event) => {
  event.preventDefault();
  pay(basket, element("source").value);
});
