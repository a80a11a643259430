// The demo page: loads model/bitnet.js (make demo-web puts it there), checks the model, answers requests.

const ROLES = {
  sensor: {
    system: "You are a sensor assistant.",
    examples: ["What's the temp?", "How dry is the soil in the greenhouse?", "alert me if it gets colder than 10 degrees", "is the battery almost empty"],
  },
  home: {
    system: "You are a home assistant.",
    examples: ["wake me up at seven tomorrow", "turn off the lights in the kitchen", "will it rain today", "play some jazz"],
  },
};
const MOST_TOKENS = 16; // the longest intent has fewer
const KEPT = 5;

const $ = (id) => document.getElementById(id);
const number = (value) => Math.round(value).toLocaleString("en");
let model;

function say(state, text) {
  $("state").dataset.state = state;
  $("state").textContent = text;
}

/** The request in the template of the model; markers of the template cannot come from the user. */
function promptOf(role, text) {
  return `<|system|>${ROLES[role].system}<|user|>${text.replaceAll("<|", "< |")}<|assistant|>`;
}

function role() {
  return new FormData($("form")).get("role");
}

function showExamples() {
  const buttons = ROLES[role()].examples.map((text) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.disabled = !model;
    button.addEventListener("click", () => {
      $("text").value = text;
      answer();
    });
    return button;
  });
  $("examples").replaceChildren(...buttons);
}

/** Lets the page draw what was said so far. */
const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 0)));

async function start() {
  let load;
  try {
    ({ load } = await import("./model/bitnet.js"));
  } catch {
    say("bad", "There is no model here yet: `make demo-web` exports one into docs/demo/model.");
    return;
  }
  const began = performance.now();
  model = await load();
  const loaded = performance.now() - began;
  $("size").textContent = `${number(model.modelBytes / 1024)} KiB`;
  say("wait", "Running the self-test.");
  await drawn();
  const test = model.selftest();
  $("selftest").dataset.state = test.equal ? "good" : "bad";
  $("selftest").textContent = test.equal ? "equal" : `differs: prompt ${test.prompt}, token ${test.token}, part ${test.part}`;
  if (!test.equal) {
    model = undefined;
    say("bad", "This browser does not compute the model as it was recorded, so it will not answer.");
    return;
  }
  say("good", `Ready, loaded in ${number(loaded)} ms. The same integers as on the microcontroller.`);
  $("ask").disabled = false;
  showExamples();
}

let busy = false;

async function answer() {
  const text = ($("text").value.trim() || $("text").placeholder).slice(0, 200);
  if (!model || busy) return;
  busy = true;
  $("text").value = text;
  const pieces = [];
  const began = performance.now();
  try {
    const said = await model.generate(promptOf(role(), text), { maxTokens: MOST_TOKENS, onToken: (piece) => pieces.push(piece) });
    const seconds = (performance.now() - began) / 1000;
    const count = said.promptIds.length + said.ids.length;
    show(text, said.text.trim() || "(nothing)", pieces);
    // A clock that browsers make coarse on purpose may say 0.
    $("speed").textContent = seconds > 0 ? number(count / seconds) : "–";
    $("time").replaceChildren(`${number(seconds * 1000)} ms `, Object.assign(document.createElement("small"), { textContent: `${count} tokens` }));
  } catch (error) {
    say("bad", String(error.message ?? error));
  } finally {
    busy = false;
  }
}

function show(text, intent, pieces) {
  $("intent").textContent = intent;
  $("tokens").replaceChildren(...pieces.filter((piece) => piece !== "").map((piece) => Object.assign(document.createElement("span"), { textContent: piece })));
  const line = document.createElement("li");
  const what = Object.assign(document.createElement("span"), { textContent: text });
  line.append(what, Object.assign(document.createElement("b"), { textContent: intent }));
  $("log").querySelector(".none")?.remove();
  $("log").prepend(line);
  while ($("log").children.length > KEPT) $("log").lastElementChild.remove();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  answer();
});
$("form").addEventListener("change", (event) => {
  if (event.target.name === "role") showExamples();
});
showExamples();
start().catch((error) => say("bad", `The model does not load: ${error.message ?? error}`));
