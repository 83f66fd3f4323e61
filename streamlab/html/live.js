// Renew the sections of the page that changed, whenever the run has got further.
const EVERY = 2000; // milliseconds
const line = document.getElementById("live");
let version = line.dataset.version;

const parts = (page) => [...page.querySelectorAll("header, main > section, footer")];
let shown = null;

async function load() {
  const answer = await fetch("/", { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function renew() {
  const page = await load();
  const now = parts(page);
  const texts = now.map((part) => part.outerHTML);
  parts(document).forEach((part, place) => {
    if (shown !== null && shown[place] === texts[place]) return;
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    part.replaceWith(now[place]);
    now[place].querySelectorAll("details").forEach((one, at) => { one.open = open[at] ?? false; });
    prepare(now[place]);
  });
  shown = texts;
  version = page.getElementById("live").dataset.version;
}

async function look() {
  try {
    const answer = await fetch("/state", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    const state = await answer.json();
    line.textContent = state.line;
    if (state.version !== version) await renew();
  } catch (error) {
    line.textContent = `Not up to date: ${error.message}`;
  }
  setTimeout(look, EVERY);
}

look();
