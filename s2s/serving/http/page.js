"use strict";

const PAUSE = 250; // ms without a keystroke before a translation begins
const N_BEST = 4; // translations of a sentence to choose from
const LIKELY = 0.7; // least mean probability of a translation's words that is called likely,
const UNCERTAIN = 0.4; // and uncertain; below that it is a guess
const SURE = 60; // percent; a detection below that does not change the target language
const LONGEST_QUERY = 4000; // characters; servers refuse long addresses

const at = (id) => document.getElementById(id);
const [text, output, more] = ["text", "translation", "more"].map(at);

// ---- state ----

let languages = []; // that can be translated from: code, name, targets
let limit = Infinity; // characters
let ready = false; // whether languages and limit are known
let wanted = ""; // target language that was chosen; a text in that language gets another
let detected = null; // language of the text, if it was to be detected
let timer = 0; // of the next translation
let run = new AbortController(); // of the latest one; whatever an older one says is dropped
let answer = nothing(); // as `streamed` gives it
let sentences = []; // of the answer, as `detailed` gives them
let current = 0; // sentence whose details are shown
let asking = 0; // timer of the question for its other translations

function nothing() {
  return { translatedText: "", model: null, parts: [], gaps: [], tail: "" };
}

// ---- the server ----

class Refused extends Error {
  constructor(status, message, seconds) {
    super(message);
    Object.assign(this, { status, seconds });
  }
}

async function ask(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = at("secret").value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  const how = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const response = await fetch(path, { ...how, headers, signal });
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After"));
  throw new Refused(response.status, error ?? "", seconds);
}

const json = async (...question) => (await ask(...question)).json();

/** The server-sent events of a response. EventSource can't have them: it sends no POST. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let [left, name, data] = ["", "message", []];
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    // CR, LF or both end a line, and nothing else. A CR at the end may be half of both.
    const lines = (left + value).split(/\r\n|\n|\r(?!$)/);
    left = lines.pop(); // the rest of it has not come yet
    for (const line of lines) {
      const [, field, content] = line.match(/^([^:]*):? ?([^]*)$/);
      if (field === "event") name = content;
      else if (field === "data") data.push(content);
      else if (!line) {
        if (data.length) yield { name, data: JSON.parse(data.join("\n")) };
        [name, data] = ["message", []];
      }
    }
  }
}

/**
 * Translate word by word. Gives the whole; `parts`, the translation of each sentence by its number;
 * `gaps`, what stands before each of them; and the `tail` after the last. Blank lines have a
 * number, but no part.
 */
async function streamed(request, signal) {
  const parts = [];
  for await (const { name, data } of events(await ask("v1/translate/stream", request, signal))) {
    if (name === "error") throw new Refused(500, data.error);
    if (name === "done") return { ...data, parts, ...between(data.translatedText, parts) };
    parts[data.sentence] = data.translation;
    if (!signal.aborted) showGrowing(parts, request.target);
  }
  throw new Refused(500, "");
}

/** What stands in a text before its parts, and after the last. */
function between(whole, parts) {
  const gaps = [];
  let end = 0;
  parts.forEach((part, n) => {
    const begin = whole.indexOf(part, end);
    gaps[n] = whole.slice(end, begin);
    end = begin + part.length;
  });
  return { gaps, tail: whole.slice(end) };
}

/**
 * The sentences of an answer with the hypothesis that is shown. None if they are not the parts of
 * the answer; null if another model has taken over meanwhile.
 */
async function detailed(request, { model, parts }, signal) {
  const found = await json("v1/translate", request, signal);
  if (found.model.version !== model.version) return null;
  const all = found.translations[0].sentences;
  const numbers = Object.keys(parts).map(Number);
  if (all.length !== numbers.length) return [];
  return all.map(({ source, tokens, hypotheses }, n) => {
    const number = numbers[n];
    const shown = { text: parts[number], words: [] }; // what a sample says can't be had again
    const chosen = hypotheses.find((one) => one.text === shown.text) ?? shown;
    return { number, source, tokens, chosen, hypotheses: [chosen], asked: false };
  });
}

/** Add other translations to a sentence. */
async function addOthers(sentence, signal) {
  const { source, target } = answer.model;
  const request = { q: sentence.source, source, target, n_best: N_BEST };
  const { translations } = await json("v1/translate", request, signal);
  const [found, ...rest] = translations[0].sentences;
  if (!found || rest.length) return;
  const known = new Set(sentence.hypotheses.map((one) => one.text));
  for (const one of found.hypotheses) {
    if (!known.has(one.text)) sentence.hypotheses.push(one);
    known.add(one.text);
  }
}

// ---- translating ----

function translateSoon(milliseconds) {
  clearTimeout(timer);
  timer = setTimeout(translate, milliseconds);
}

async function translate() {
  clearTimeout(timer);
  clearTimeout(asking);
  run.abort();
  run = new AbortController();
  const { signal } = run;
  if (!ready) return start();
  if (!text.value.trim()) return showNothing();
  let whole = false; // whether the translation is there, and only its details are not
  setBusy(true);
  try {
    if (count() > limit) throw new Refused(413, "");
    if (at("from").value === "auto") await detectLanguage(signal);
    if (signal.aborted) return;
    const request = { q: text.value, source: sourceLanguage(), target: at("to").value };
    const got = await streamed(request, signal);
    if (signal.aborted) return;
    whole = true;
    showAnswer(got);
    const found = await detailed(request, got, signal);
    if (signal.aborted) return;
    if (!found) return translateSoon(0);
    showSentences(found);
    showFault();
  } catch (error) {
    if (signal.aborted) return;
    showFault(error, whole);
  }
  setBusy(false);
}

/** Detect the language of the text. If the target language can't be had from it, take another. */
async function detectLanguage(signal) {
  const found = await json("detect", { q: text.value }, signal);
  if (signal.aborted) return;
  const [first] = found;
  const likeliest = languageOf(first?.language);
  if (likeliest && first.confidence >= SURE) {
    detected = likeliest.code;
  } else {
    const fits = ({ language }) => languageOf(language)?.targets.includes(at("to").value);
    detected = (found.find(fits) ?? found.find((one) => languageOf(one.language)))?.language;
  }
  detected ??= languages[0].code;
  showLanguages();
  at("said").textContent = say("detected", nameOf(detected));
}

const languageOf = (code) => languages.find((language) => language.code === code);
const sourceLanguage = () =>
  at("from").value === "auto" ? detected : at("from").value;

/** Screen readers wait until the translation is no longer busy, and read it once. */
function setBusy(busy) {
  output.setAttribute("aria-busy", busy);
  at("status").textContent = busy ? say("translating") : answer.incomplete ? say("incomplete") : "";
  if (busy) output.classList.add("old");
  if (busy) more.inert = true; // it tells of an older text
}

/**
 * Say what went wrong and what to do, and keep the old translation. If the server says when to come
 * again, do so.
 */
function showFault(error, whole = false) {
  const parts = error ? fault(error, whole) : [];
  if (at("fault").textContent === parts.map((part) => part.textContent ?? part).join("")) return;
  at("fault").replaceChildren(...parts); // if it is new: each change is read out
  if (whole) more.hidden = true;
}

function fault(error, whole) {
  const again = make("button", { type: "button" }, say("again"));
  again.addEventListener("click", translate);
  if (!(error instanceof Refused)) return [say("gone"), again];
  const { status, message, seconds } = error;
  if (status === 403) return [say("keyNeeded")];
  if (status === 408) return [say("slow")];
  if (status === 413) return [count() > limit ? say("tooLong", number(limit)) : say("tooLarge")];
  if (status === 429 || status === 503) {
    const reason = say(status === 429 ? "busy" : "notReady");
    if (!seconds || whole) return [reason, again];
    translateSoon(1000 * seconds);
    return [`${reason} ${say("retry", number(seconds))}`];
  }
  if (status === 500) return [say("failed"), again];
  return [say("failed"), make("span", { lang: "en" }, message), again]; // the server speaks English
}

// ---- showing ----

/** An element. What is inside becomes text, never markup. */
function make(name, attributes, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

function showNothing() {
  answer = nothing();
  sentences = [];
  current = 0;
  detected = null;
  output.replaceChildren();
  setBusy(false);
  output.classList.remove("old");
  showFault();
  showLanguages();
  more.hidden = true;
  at("help").hidden = false;
  at("copy").disabled = true;
}

/** Show what has come of a translation, and of the old one the sentences that have not come. */
function showGrowing(parts, target) {
  const both = [...answer.parts];
  Object.assign(both, parts);
  const shown = [];
  let first = true;
  both.forEach((part, n) => {
    if (part === undefined) return;
    const gap = answer.gaps[n] ?? (first ? "" : " ");
    shown.push(gap, n in parts ? part : make("span", { class: "old" }, part));
    first = false;
  });
  output.lang = target;
  output.classList.remove("old");
  output.replaceChildren(...shown);
}

function showAnswer(got) {
  answer = got;
  output.lang = got.model.target;
  output.classList.remove("old");
  output.textContent = got.translatedText;
  at("copy").disabled = !got.translatedText;
  at("model").textContent = say("model", got.model.name, got.model.version);
}

function showSentences(found) {
  sentences = found;
  at("help").hidden = true;
  more.hidden = !sentences.length;
  more.inert = false;
  if (!sentences.length) return;
  const spans = sentences.flatMap(({ number }, n) =>
    [answer.gaps[number], make("span", { class: "sentence", "data-sentence": n })]);
  output.replaceChildren(...spans, answer.tail);
  sentences.forEach((_, n) => showSentence(n));
  output.querySelector(".word")?.setAttribute("tabindex", 0); // one stop; arrows lead to the others
  choose(Math.min(current, sentences.length - 1));
}

/** Show the translation that is chosen for a sentence. */
function showSentence(n) {
  const span = output.querySelector(`[data-sentence="${n}"]`);
  const isStop = span.querySelector("[tabindex='0']") !== null;
  span.replaceChildren(...words(sentences[n].chosen));
  if (isStop) (span.querySelector(".word") ?? output.querySelector(".word"))?.setAttribute("tabindex", 0);
}

/** Show the details of a sentence. */
function choose(n) {
  current = n;
  const sentence = sentences[n];
  const several = sentences.length > 1;
  for (const [m, span] of output.querySelectorAll(".sentence").entries()) {
    span.classList.toggle("current", several && m === n);
    if (m === n) scrollTo(output, span);
  }
  at("pager").hidden = !several;
  at("place").textContent = say("place", number(n + 1), number(sentences.length));
  at("tokens").lang = text.lang;
  at("tokens").replaceChildren(...sentence.tokens.map((token) =>
    make("span", { class: "token" }, visible(token))));
  showChoices();
  showChosen();
  clearTimeout(asking);
  if (!sentence.asked) asking = setTimeout(askForOthers, several ? 150 : 0); // some are only passed
}

/** Bring what is inside of a box into sight there; `scrollIntoView` would move the page as well. */
function scrollTo(box, { offsetTop, offsetHeight }) {
  const isSeen = offsetTop >= box.scrollTop
    && offsetTop + offsetHeight <= box.scrollTop + box.clientHeight;
  if (!isSeen) box.scrollTop = offsetTop;
}

async function askForOthers() {
  const { signal } = run;
  const sentence = sentences[current];
  sentence.asked = true;
  at("choices").setAttribute("aria-busy", true);
  try {
    await addOthers(sentence, signal);
  } catch (error) {
    sentence.asked = false;
    if (!signal.aborted && sentence === sentences[current])
      at("no-choices").replaceChildren(...fault(error, true));
    return;
  }
  if (!signal.aborted && sentence === sentences[current]) showChoices();
}

function showChoices() {
  const sentence = sentences[current];
  at("choices").setAttribute("aria-busy", !sentence.asked);
  at("choices").replaceChildren(...sentence.hypotheses.map((one) => choice(sentence, one)));
  const none = sentence.asked && sentence.hypotheses.length === 1;
  at("no-choices").textContent = none ? say("noOthers") : "";
}

function choice(sentence, one) {
  const radio = make("input", { type: "radio", name: "choice" });
  radio.checked = one === sentence.chosen;
  radio.addEventListener("change", () => {
    sentence.chosen = one;
    showSentence(sentences.indexOf(sentence));
    showChosen();
  });
  const translation = make("span", { lang: output.lang, dir: "auto" }, one.text);
  return make("label", { class: "choice" }, radio, translation,
    make("span", { class: "quiet" }, confidence(one)));
}

/** How sure the model is, in words: by the geometric mean of the words' probabilities. */
function confidence({ words: all }) {
  if (!all.length) return "";
  const mean = Math.exp(all.reduce((sum, { score }) => sum + score, 0) / all.length);
  return inWords(mean);
}

const inWords = (probability) =>
  say(probability >= LIKELY ? "likely" : probability >= UNCERTAIN ? "uncertain" : "guess");

/** Show the attention of the translation that is chosen for the current sentence. */
function showChosen() {
  at("map").hidden = !sentences[current].chosen.attention;
  showTable();
  look(null);
}

const visible = (token) => token.trim() || "␣";
const number = (n) => n.toLocaleString(LANGUAGE);
const percent = (share) => share.toLocaleString(LANGUAGE, { style: "percent" });

/**
 * A hypothesis's text with its words as elements. What stands between two words that are found is
 * of the word that is missing there: an unknown one that was copied from the source.
 */
function words({ text: whole, words: said }) {
  const parts = [];
  let end = 0;
  let missing = -1;
  const put = (upto, place) => {
    const [, before, core, after] = whole.slice(end, upto).match(/^(\s*)(.*?)(\s*)$/s);
    const isWord = core && place >= 0;
    parts.push(before, isWord ? word(core, said[place], place) : core, after);
    end = upto;
  };
  for (const [place, { text: own }] of said.entries()) {
    if (!own || own === "<eos>") continue;
    const apart = missing < 0 ? -1 : whole.indexOf(` ${own}`, end);
    const begin = apart < 0 ? whole.indexOf(own, end) : apart + 1;
    if (begin >= 0) {
      put(begin, missing);
      put(begin + own.length, place);
    }
    missing = begin >= 0 ? -1 : place;
  }
  put(whole.length, missing);
  return parts;
}

function word(core, { unknown }, place) {
  const mark = unknown ? { class: "word unknown", title: say("unknown") } : { class: "word" };
  const attributes = { "data-place": place, tabindex: -1, "aria-describedby": "explanation" };
  return make("span", { ...mark, ...attributes }, core);
}

/** Shade the tokens that a word of the translation looks at; none if there is no word. */
function look(element) {
  output.querySelector(".looking")?.classList.remove("looking");
  for (const token of at("tokens").querySelectorAll("[style]")) token.removeAttribute("style");
  if (!sentences.length) return;
  const { tokens, chosen } = sentences[current];
  const hint = matchMedia("(hover: hover)").matches ? "point" : "tap";
  at("explanation").textContent = say(chosen.attention ? hint : "noAttention");
  if (!element || Number(element.parentElement.dataset.sentence) !== current) return;
  element.classList.add("looking");
  const { place } = element.dataset;
  const weights = chosen.attention?.[place] ?? [];
  weights.forEach((weight, n) => at("tokens").children[n].style.setProperty("--weight", weight));
  const ranked = weights.map((weight, n) => ({ weight, n })).sort((a, b) => b.weight - a.weight);
  if (ranked.length) scrollTo(at("tokens"), at("tokens").children[ranked[0].n]);
  const strongest = ranked.filter(({ weight }) => weight >= 0.01).slice(0, 3)
    .map(({ weight, n }) => `${visible(tokens[n])} ${percent(weight)}`);
  const { text: own, score, unknown } = chosen.words[place];
  const from = strongest.length ? ` ← ${strongest.join(", ")}` : "";
  const note = unknown ? say("unknown") : inWords(Math.exp(score));
  at("explanation").textContent = `${own}${from}; ${note}`;
}

/** The weights as a table, which is made once somebody wants to see it. */
function showTable() {
  at("table").replaceChildren();
  const { tokens, chosen } = sentences[current] ?? {};
  if (!at("map").open || !chosen?.attention) return;
  const head = tokens.map((token) => make("th", { scope: "col" }, make("span", {}, visible(token))));
  const rows = chosen.attention.map((weights, row) => {
    const name = visible(chosen.words[row].text);
    const cells = weights.map((weight, n) => {
      const title = `${name} ← ${visible(tokens[n])}: ${percent(weight)}`;
      const cell = make("td", { title }, weight >= 0.095 ? Math.round(100 * weight) : "");
      cell.style.setProperty("--weight", weight);
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
  });
  at("table").append(make("table", {}, make("caption", {}, chosen.text),
    make("thead", {}, make("tr", {}, make("td", {}), ...head)), make("tbody", {}, ...rows)));
}

/** Count characters as the server does: code points. */
function count() {
  const { length } = [...text.value];
  at("count").textContent = limit < Infinity ? [length, limit].map(number).join(" / ") : "";
  at("count").className = length > limit ? "over" : "";
  at("clear").disabled = at("link").disabled = !length;
  return length;
}

// ---- languages ----

/** The name of a language in the language of the page. */
function nameOf(code) {
  let name = code; // a model may call its languages what it likes
  try {
    name = new Intl.DisplayNames([LANGUAGE], { type: "language" }).of(code);
  } catch {}
  if (name === code) name = languageOf(code)?.name ?? code;
  return name[0].toLocaleUpperCase(LANGUAGE) + name.slice(1);
}

/** Offer languages to choose from, or name the only one. */
function offer(id, codes, before, names = codes.map(nameOf)) {
  const [select, name] = [at(id), at(`${id}-name`)];
  select.replaceChildren(...codes.map((code, n) => make("option", { value: code }, names[n])));
  if (codes.includes(before)) select.value = before;
  select.hidden = codes.length < 2;
  name.hidden = !select.hidden;
  name.textContent = codes.length ? names[0] : "";
}

/** Show the languages that fit what is chosen, and whether they can be swapped. */
function showLanguages() {
  const codes = languages.map(({ code }) => code);
  const names = codes.map(nameOf);
  if (codes.length > 1) {
    codes.unshift("auto");
    names.unshift(detected ? say("detected", nameOf(detected)) : say("detect"));
  }
  offer("from", codes, at("from").value, names);
  const source = sourceLanguage();
  const all = languages.flatMap(({ targets }) => targets);
  offer("to", [...new Set(languageOf(source)?.targets ?? all)], wanted);
  text.lang = source ?? "";
  at("swap").hidden = !source || !languageOf(at("to").value)?.targets.includes(source);
}

/** Choose languages, as far as they are served, in any spelling: `en-US` is `en` where it must. */
function chooseLanguages(wanted) {
  for (const id of ["from", "to"]) {
    const code = wanted[id]?.toLowerCase() ?? "";
    const codes = [...at(id).options].map(({ value }) => value);
    const same = (given) => codes.find((one) => one.toLowerCase() === given);
    const found = same(code) ?? same(code.split(/[-_]/)[0]);
    if (found) at(id).value = found;
    if (found && id === "to") wanted = found;
    showLanguages();
  }
}

function swapLanguages() {
  const [source, target] = [sourceLanguage(), at("to").value];
  const isNew = output.getAttribute("aria-busy") !== "true" && !output.classList.contains("old");
  if (isNew && output.textContent) text.value = output.textContent;
  detected = null;
  chooseLanguages({ from: target, to: source });
  changed();
  translate();
}

// ---- the address ----

/** What a link asks for; a long text stands after `#`, as `linkTo` says. */
function asked() {
  const found = new URLSearchParams(`${location.search.slice(1)}&${location.hash.slice(1)}`);
  return { from: found.get("source"), to: found.get("target"), q: found.get("q") };
}

/** A link to the page with these languages and this text. What stands after `#` is not sent. */
function linkTo(q) {
  const query = new URLSearchParams({ source: at("from").value, target: at("to").value, q });
  const mark = `${query}`.length > LONGEST_QUERY ? "#" : "?";
  return `${location.origin}${location.pathname}${mark}${query}`;
}

/** Keep the languages in the address, for a bookmark, but no text, which is nobody's history. */
function changed() {
  count();
  const query = new URLSearchParams({ source: at("from").value, target: at("to").value });
  const address = `${location.pathname}?${query}`;
  if (ready && address !== location.pathname + location.search + location.hash)
    history.replaceState(null, "", address);
}

// ---- the key ----

/** The key is kept as long as the tab is open. A browser may be set to store nothing. */
const stored = {
  get key() {
    try { return sessionStorage.getItem("key") ?? ""; } catch { return ""; }
  },
  set key(key) {
    try { sessionStorage.setItem("key", key); } catch {}
  },
};

// ---- what the user does ----

text.addEventListener("input", () => {
  changed();
  if (text.value.trim()) translateSoon(PAUSE);
  else translate();
});
function clear() {
  text.value = "";
  text.focus();
  changed();
  translate();
}
at("clear").addEventListener("click", clear);
at("panes").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) translate();
  else if (event.key === "Escape" && !event.isComposing) clear();
});
for (const id of ["from", "to"]) {
  at(id).addEventListener("change", () => {
    if (id === "from") detected = null;
    else wanted = at("to").value;
    showLanguages();
    changed();
    translate();
  });
}
at("swap").addEventListener("click", swapLanguages);
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  stored.key = at("secret").value.trim();
  translate();
});
at("map").addEventListener("toggle", showTable);
for (const [id, step] of [["previous", -1], ["next", 1]]) {
  const around = () => (current + step + sentences.length) % sentences.length;
  at(id).addEventListener("click", () => choose(around()));
}

const wordOf = ({ target }) => target.closest(".word");
const point = (event) => look(wordOf(event) ?? document.activeElement.closest(".word"));
for (const name of ["pointerover", "pointerleave"]) output.addEventListener(name, point);
for (const name of ["focusin", "click"]) {
  output.addEventListener(name, (event) => {
    const n = event.target.closest(".sentence")?.dataset.sentence;
    if (n === undefined || more.inert) return;
    if (Number(n) !== current) choose(Number(n));
    point(event);
  });
}
output.addEventListener("focusout", () => look(null));
output.addEventListener("keydown", ({ key, target }) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[key] ?? 0;
  const all = [...output.querySelectorAll(".word")];
  const next = all[all.indexOf(target) + step];
  if (!step || !next) return;
  target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

async function copy(button, content) {
  try {
    await navigator.clipboard.writeText(content);
  } catch { // the older way, which works without TLS as well
    const field = document.body.appendChild(make("textarea", { class: "unseen" }));
    field.value = content;
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  button.textContent = say("copied");
  at("said").textContent = say("copied");
  setTimeout(() => {
    button.textContent = say(button.dataset.text);
    at("said").textContent = "";
  }, 1500);
}
at("copy").addEventListener("click", () => copy(at("copy"), output.textContent));
at("link").addEventListener("click", () => copy(at("link"), linkTo(text.value)));

// ---- the start ----

function showTexts() {
  document.documentElement.lang = LANGUAGE;
  document.title = `${say("title")} – s2s`;
  for (const element of document.querySelectorAll("[data-text]"))
    element.textContent = say(element.dataset.text);
  for (const element of document.querySelectorAll("[data-label]"))
    element.setAttribute("aria-label", say(element.dataset.label));
  at("swap").title = say("swap");
  text.placeholder = say("type");
  output.dataset.empty = say("empty");
}

/** Ask the server for its languages and limits; then translate what is there. */
async function start() {
  try {
    const [listed, settings] = await Promise.all(["languages", "frontend/settings"].map((path) => json(path)));
    if (ready) return;
    languages = listed
      .map((one) => ({ ...one, targets: one.targets.filter((target) => target !== one.code) }))
      .filter(({ targets }) => targets.length);
    limit = settings.charLimit;
    at("key").hidden = !settings.keyRequired && !settings.apiKeys;
    const { from, to, q } = asked();
    const { source, target } = settings.language;
    showLanguages();
    chooseLanguages({ from: source.code, to: target.code });
    chooseLanguages({ from, to });
    text.value = q ?? text.value; // a browser keeps what was typed when a page is loaded again
    ready = true;
    count();
    translate();
  } catch (error) {
    showFault(error);
  }
}

showTexts();
at("secret").value = stored.key;
if (matchMedia("(hover: hover)").matches) text.focus(); // elsewhere it would bring up a keyboard
start();
