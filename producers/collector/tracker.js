// Sends what visitors of a page do to `anabranch collect`. docs/api.md, "Browsers", says how to use it.
//
// The server leaves out comments and white space; tracker_script.py says what that asks of this file. What is left has
// to stay below 4,096 bytes.
(() => {
let store, user, timer, active, early = [], number = 1e6, failures = 0;
try {
  store = localStorage;
} catch {
  // Where there is none, a cookie keeps the anonymous id, and the queue ends with the page.
}
const
{src, dataset: options} = document.currentScript,
url = new URL("v1/beacon", options.url || src) + "?key=" + (options.key || ""),
NAME = "anabranch", ID = NAME + ".id", USER = NAME + ".user", RETRY = NAME + ".retry", QUEUE = NAME + ".q.",
// Do Not Track and Global Privacy Control hold, whatever the page says of consent.
banned = navigator.doNotTrack == 1 || navigator.globalPrivacyControl,
// Pages over plain http do not have `randomUUID`.
newId = () => crypto.randomUUID?.() ?? crypto.getRandomValues(new Uint32Array(4)).join("-"),
page = newId(),
sending = {},
counts = {dropped: 0, refused: 0},
drop = () => counts.dropped++,

setCookie = (value, seconds) => {
  document.cookie = NAME + "=" + value + ";path=/;samesite=lax;max-age=" + seconds;
},

start = () => {
  const id = /\banabranch=([\w-]+)/.exec(document.cookie)?.[1] ?? newId();
  try {
    store[ID] ||= id;
  } catch {
    store = {[ID]: id};
    setCookie(id, 31536e3);
  }
  active = true;
  enqueue();
  remember();
},

stop = () => {
  active = false;
  early = [];
  setCookie("", 0);
  Reflect.ownKeys(store).forEach(key => key.startsWith(NAME) && delete store[key]);
},

remember = () => {
  if (active && user != null) store[USER] = user;
},

// Before the consent, events stay in the memory of their page.
add = (type, fields, more, id = newId()) => {
  if (banned) return;
  early.push({...more, ...fields, type, event_id: id, user_id: user, ts: Date.now()});
  if (active) enqueue();
  else if (early.length > 500) drop(early.shift());
},

// An entry for each event, so that no tab writes over what another one writes.
enqueue = () => {
  early.splice(0).forEach(event => {
    event.user_id = (event.user_id ?? store[USER]) || store[ID];
    try {
      const text = JSON.stringify(event), keys = queued();
      if (text.length > 15e3) throw "too long";
      for (; keys.length > 499; drop()) delete store[keys.shift()];
      store[[QUEUE + Date.now(), number++, page].join(".")] = text;
    } catch (error) {
      console.warn(NAME, error, drop());
    }
  });
  later(300);
},

queued = () => Reflect.ownKeys(store).filter(key => key.startsWith(QUEUE)).sort(),

// A page sends its own events, and those that another page has not sent for half a minute: it is gone, or cannot. When
// a page is left, it sends those of its own that no other page can be sending. A ranker knows the last 16 event ids of a
// user, so that a batch which arrives twice counts once. Browsers allow 64 KiB for what outlives its page.
batch = left => {
  let chars = 0;
  return queued().filter(key => {
    const age = Math.abs(Date.now() - key.split(".")[2]), own = key.endsWith(page);
    return !sending[key] && (left ? own && age < 15e3 : own || age > 3e4) && (chars += store[key].length) < 16e3;
  }).slice(0, 16);
},

later = ms => {
  timer ||= setTimeout(flush, ms);
},

// How long no tab may try again. A time beyond a day is of another clock.
delay = () => {
  const ms = store[RETRY] - Date.now();
  return ms > 0 && ms < 864e5 ? ms : 0;
},

// One tab at a time. The pause is for the others, which see a moment later what was removed from the storage.
flush = async () => {
  timer = 0;
  const drain = async () => {
    for (let keys; active && !delay() && (keys = batch())[0];) {
      await send(keys);
      await new Promise(done => setTimeout(done, 100));
    }
  };
  try {
    await navigator.locks.request(NAME, drain);
  } catch {
    // Pages over plain http have no locks, and those without storage are denied them.
    await drain();
  }
  if (active && queued()[0]) later(delay() || 3e4);
},

send = async keys => {
  let answer, body = {};
  keys.forEach(key => sending[key] = 1);
  try {
    answer = await fetch(url, {
      method: "POST",
      body: "[" + keys.map(key => store[key]) + "]",
      keepalive: true,
      credentials: "omit",
      signal: AbortSignal.timeout?.(15e3)
    });
    body = await answer.json();
  } catch {}
  keys.forEach(key => delete sending[key]);
  if (!active) return;
  // Only what is wrong with the events themselves is final: keys, origins and addresses are put right.
  const status = answer?.status ?? 500, bad = status < 300 ? body.refused ?? [] : keys;
  if (bad[0]) console.warn(NAME, status, body);
  if (status > 299 && status != 400 && status != 413) {
    const backoff = Math.min(6e4, 1e3 * 2 ** failures++) * (1 - Math.random() / 2);
    store[RETRY] = Date.now() + Math.max(backoff, answer?.headers.get("Retry-After") * 1e3 || 0);
    return;
  }
  failures = 0;
  keys.forEach(key => delete store[key]);
  counts.refused += bad.length;
},

// The request outlives the page. What nobody saw the answer to stays in the queue, for another page.
leave = () => {
  const keys = active && !delay() && batch(true);
  if (keys[0]) send(keys);
},

idOf = item => "" + (item.item_id ?? item),
api = {
  search: (query, more) => add("search", {query}, more),
  impression: (items, more) => {
    for (let n = 0; n < items.length; n += 200) add("impression", {shown: items.slice(n, n + 200).map(idOf)}, more);
  },
  // The same order has the same event ids, so that a page which is loaded again counts once.
  purchase: (items, more) => items.forEach((item, n) => {
    const item_id = idOf(item), order_id = more?.order_id ? "" + more.order_id : undefined;
    add("purchase", {...(item.item_id && item), item_id, order_id}, more, order_id && [order_id, item_id, n].join("/"));
  }),
  identify: id => {
    user = "" + (id ?? "");
    remember();
  },
  consent: given => given ? banned || active || start() : stop(),
  counts: () => counts,
  push: ([name, ...values]) => api[name](...values)
},
calls = window[NAME];

for (const type of "view click like dislike rating cart remove_from_cart refund".split(" "))
  api[type] = (item, more) => add(type, {item_id: idOf(item)}, more);
// Nothing here may break the page.
for (const name in api) {
  const call = api[name];
  api[name] = (...values) => {
    try {
      return call(...values);
    } catch (error) {
      console.error(NAME, error);
    }
  };
}
addEventListener("visibilitychange", leave);
addEventListener("pagehide", leave);
window[NAME] = api;
if (options.consent != "required") api.consent(true);
calls?.forEach?.(api.push);
})();
