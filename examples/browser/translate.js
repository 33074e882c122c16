// Translates with an exported model in a web page, by ONNX Runtime Web. `npm run build` puts this
// file, the libraries and the model into one script, so that the page needs no server.

import { Tokenizer } from "@huggingface/tokenizers";
import manifest from "model/manifest.json";
import encoderGraph from "model/encoder.onnx";
import sourceJson from "model/source.json";
import stepGraph from "model/step.onnx";
import targetJson from "model/target.json";
import wasm from "onnxruntime-web/ort-wasm-simd-threaded.wasm";
import { env, InferenceSession, Tensor } from "onnxruntime-web/wasm";

const IDS = manifest.special_ids;
const SPACELESS = new RegExp(manifest.spaceless_letters, "u");
const START = "\ue002"; // begins every word that is split into subwords
const JOIN = "\ue000"; // ends a translation that was cut off there

class Vocabulary {
  constructor(json) {
    this.words = json.model.type === "WordLevel" ? new Map(Object.entries(json.model.vocab)) : null;
    // The library knows no whole words as a model: an empty one takes their place.
    const model = this.words ? { type: "BPE", vocab: {}, merges: [] } : json.model;
    this.tokenizer = new Tokenizer({ ...json, model }, {});
    this.ids = this.words ?? this.tokenizer.model.tokens_to_ids;
    this.tokens = [];
    for (const [token, id] of this.ids) this.tokens[id] = token;
  }

  encode(sentence) {
    const words = this.tokenizer.normalizer(sentence).split(" ").filter((word) => word);
    return words.flatMap((word) => {
      const tokens = this.words ? [word] : this.tokenizer.model([START + word]);
      const ids = tokens
        .map((token) => this.ids.get(token) ?? IDS.unk)
        .map((id) => (Object.values(IDS).includes(id) ? IDS.unk : id));
      // A word with an unknown part is unknown as a whole, but for clauses without spaces.
      return ids.includes(IDS.unk) && !SPACELESS.test(word) ? [IDS.unk] : ids;
    });
  }

  decode(ids) {
    const text = ids.length ? this.tokenizer.decoder(ids.map((id) => this.tokens[id])) : "";
    return text.endsWith(JOIN) ? text.slice(0, -1) : text;
  }
}

const integers = (numbers, shape) => new Tensor("int64", BigInt64Array.from(numbers, BigInt), shape);

class Translator {
  static async load() {
    env.wasm.wasmBinary = wasm;
    env.wasm.numThreads = 1; // more need a server that isolates the page
    const translator = new Translator();
    translator.encoder = await InferenceSession.create(encoderGraph);
    translator.step = await InferenceSession.create(stepGraph);
    translator.source = new Vocabulary(sourceJson);
    translator.target = new Vocabulary(targetJson);
    return translator;
  }

  // Returns the greedy translation of a sentence.
  async translate(sentence) {
    const source = this.source.encode(sentence);
    if (!source.length) return sentence;
    const state = await this.encoder.run({
      source: integers(source, [1, source.length]),
      lengths: integers([source.length], [1]),
    });
    const ids = [];
    let token = IDS.sos;
    while (ids.length < manifest.decode.max_length) {
      const found = await this.step.run({ tokens: integers([token], [1]), ...state });
      for (const name of Object.keys(state)) state[name] = found[`next_${name}`] ?? state[name];
      const logits = found.logits.data;
      for (const id of [IDS.pad, IDS.unk, IDS.sos]) logits[id] = -Infinity;
      token = logits.reduce((best, logit, id) => (logit > logits[best] ? id : best), 0);
      if (token === IDS.eos) break;
      ids.push(token);
    }
    return this.target.decode(ids);
  }
}

const byId = (id) => document.getElementById(id);
const language = (code) => new Intl.DisplayNames("en", { type: "language" }).of(code);

async function main() {
  byId("source-label").textContent = `${language(manifest.source_language)}, a sentence a line`;
  byId("target-label").textContent = language(manifest.target_language);
  byId("source").lang = manifest.source_language;
  byId("target").lang = manifest.target_language;
  const translator = await Translator.load();
  const button = document.querySelector("button");
  document.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const start = performance.now();
    const translations = [];
    for (const line of byId("source").value.split("\n")) {
      translations.push(await translator.translate(line));
    }
    byId("target").textContent = translations.join("\n");
    byId("status").textContent = `${Math.round(performance.now() - start)} ms, in this browser`;
    button.disabled = false;
  });
  byId("source").disabled = button.disabled = false;
  byId("status").textContent = "Ready; nothing leaves this browser.";
}

main().catch((error) => {
  byId("status").textContent = `The model cannot be loaded: ${error.message}`;
});
