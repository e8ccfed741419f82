"use strict";

// Asks the server that sent this page, and no other. What comes back is shown as text, never as markup.

const ROLES = {
  text: "texts",
  clip_text: "texts beside images",
  image: "images",
  rerank: "ranking documents",
};
const WAIT_MILLISECONDS = 1000;
let token = "";

const find = (selector, root = document) => root.querySelector(selector);

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** What the server answers; a Refusal with its words where it does not do what was asked. */
async function ask(path, body) {
  const request = { headers: { Accept: "application/json" }, cache: "no-store" };
  if (token) request.headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) {
    request.method = "POST";
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let reply;
  try {
    reply = await fetch(path, request);
  } catch {
    throw new Refusal(0, "The server does not answer. Is it still running?");
  }
  const content = await reply.json().catch(() => null);
  if (reply.ok && content !== null) return content;
  const error = content?.error?.message ?? content?.error ?? `${reply.status} ${reply.statusText}`;
  throw new Refusal(reply.status, String(error).replace("\n\nhint: ", "\nHint: "));
}

function cosine(first, second) {
  const dot = (a, b) => a.reduce((sum, number, index) => sum + number * b[index], 0);
  return dot(first, second) / (Math.sqrt(dot(first, first) * dot(second, second)) || 1);
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

/** A list with the best first. A bar shows where a score lies between the lowest and the highest. */
function ranking(entries) {
  const sorted = [...entries].sort((a, b) => b.score - a.score);
  const lowest = sorted.at(-1).score;
  const range = sorted[0].score - lowest || 1;
  const items = sorted.map(({ text, score }) => {
    const item = element("li", {}, element("span", { textContent: text }));
    item.append(element("span", { className: "score", textContent: score.toFixed(4) }));
    item.prepend(bar((score - lowest) / range));
    return item;
  });
  return element("ol", {}, ...items);
}

function bar(share) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const rectangle = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  rectangle.setAttribute("width", `${(100 * share).toFixed(1)}%`);
  rectangle.setAttribute("height", "100%");
  svg.setAttribute("aria-hidden", "true");
  svg.append(rectangle);
  return svg;
}

async function compare() {
  const input = [find("#first").value, find("#second").value];
  const { data } = await ask("v1/embeddings", { input });
  const similarity = cosine(data[0].embedding, data[1].embedding);
  return element(
    "p",
    { className: "similarity" },
    element("strong", { textContent: similarity.toFixed(4) }),
    "cosine similarity: 1 means the same, about 0 nothing in common",
  );
}

async function rankCaptions() {
  const captions = lines(find("#lines").value);
  if (!captions.length) throw new Refusal(0, "Write at least one caption.");
  const image = await base64(find("#image").files[0]);
  const { textVectors, imageVectors } = await ask("vectorize", { texts: captions, images: [image] });
  return ranking(captions.map((text, index) => ({ text, score: cosine(textVectors[index], imageVectors[0]) })));
}

async function rankDocuments() {
  const texts = lines(find("#documents").value);
  if (!texts.length) throw new Refusal(0, "Write at least one document.");
  const scores = await ask("rerank", { query: find("#query").value, texts });
  return ranking(scores.map(({ index, score }) => ({ text: texts[index], score })));
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Refusal(0, `${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}

/** Shows in a section what its form asks for, or why there is nothing to show. */
function connect(section, answer) {
  const form = find("form", section);
  const button = find("button", form);
  const result = find(".result", section);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      result.replaceChildren(await answer());
    } catch (error) {
      result.replaceChildren(element("p", { className: "error", role: "alert", textContent: error.message }));
      if (error.status === 401) await start();
    } finally {
      button.disabled = false;
    }
  });
}

function acceptImages() {
  const [drop, input, preview] = [find("#drop"), find("#image"), find("#preview")];
  const over = (isOver) => (event) => {
    event.preventDefault();
    drop.classList.toggle("over", isOver);
  };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    if (!event.dataTransfer.files.length) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change"));
  });
  input.addEventListener("change", () => {
    URL.revokeObjectURL(preview.src);
    const [file] = input.files;
    preview.hidden = !file;
    find("#drop-hint").hidden = Boolean(file);
    if (!file) return;
    preview.src = URL.createObjectURL(file);
    preview.alt = file.name;
  });
}

function showModels(models) {
  const rows = models.map((model) =>
    element(
      "tr",
      {},
      element("th", { scope: "row", textContent: model.id }),
      element("td", { textContent: model.roles.map((role) => ROLES[role] ?? role).join(", ") }),
      element("td", { textContent: model.dimension ?? "–" }),
      element("td", { textContent: model.max_tokens ?? "no limit" }),
      element("td", {}, element("code", { textContent: model.fingerprint?.slice(0, 12) ?? "–" })),
    ),
  );
  find("#models tbody").replaceChildren(...rows);
  const roles = new Set(models.flatMap((model) => model.roles));
  find("#models").hidden = false;
  find("#compare").hidden = !roles.has("text");
  find("#captions").hidden = !roles.has("image");
  find("#rerank").hidden = !roles.has("rerank");
}

/** Finds out what is served; asks for a token where one is needed, and waits for models that are being loaded. */
async function start() {
  const status = find("#status");
  try {
    const { data } = await ask("v1/models");
    showModels(data);
    find("#access").hidden = true;
    status.textContent = "Ready.";
  } catch (error) {
    status.textContent = `Not ready: ${error.message.split("\n")[0]}`;
    if (error.status === 401) {
      status.textContent = token ? "The server does not know this token." : "The server asks for a token.";
      find("#access").hidden = false;
      find("#token").focus();
    } else {
      setTimeout(start, WAIT_MILLISECONDS);
    }
  }
}

find("#access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("#token").value.trim();
  start();
});
connect(find("#compare"), compare);
connect(find("#captions"), rankCaptions);
connect(find("#rerank"), rankDocuments);
acceptImages();
start();
