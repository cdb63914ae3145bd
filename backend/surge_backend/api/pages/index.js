// The status page: polls the public figures and shows them. Loads nothing from anywhere else, keeps nothing.
"use strict";

const POLL_MS = 1000;
const SETTLEMENTS_SHOWN = 8;
const MICROCREDITS = 1000000;
const shown = new Map(); // log index -> settlement, at most SETTLEMENTS_SHOWN
let treeSize = -1;

const whole = new Intl.NumberFormat("en-GB");
const credits = new Intl.NumberFormat("en-GB", { minimumFractionDigits: 2, maximumFractionDigits: 6 });
const put = (id, text) => { document.getElementById(id).textContent = text; };
const time = (ms) => new Date(ms).toLocaleTimeString("en-GB");

async function get(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(path + " answered " + answer.status);
  return answer.json();
}

function showStats(stats) {
  for (const id of ["devices", "gateways", "batches", "reports_accepted", "reports_rejected"]) {
    put(id, whole.format(stats[id]));
  }
  put("credited", credits.format(stats.credited_microcredits / MICROCREDITS));
  put("telemetry_points", stats.telemetry_points === null ? "store not answering" : whole.format(stats.telemetry_points));
  put("telemetry_lag", stats.telemetry_lag ? whole.format(stats.telemetry_lag) + " batches" : "nothing");
}

function row(entry) {
  const paid = entry.credits.reduce((sum, leg) => sum + Math.max(0, leg.microcredits), 0);
  const line = document.createElement("tr");
  const cells = [
    [whole.format(entry.index), true], [entry.gateway_id, false], [whole.format(entry.batch_seq), true],
    [whole.format(entry.report_count), true], [whole.format(entry.accepted_count), true],
    [credits.format(paid / MICROCREDITS), true], [time(entry.received_ms), false],
  ];
  for (const [text, isNumber] of cells) {
    const cell = line.insertCell();
    cell.textContent = text;
    if (isNumber) cell.className = "number";
  }
  return line;
}

async function showLog(size) {
  const head = await get("/v1/log/head");
  put("tree_size", whole.format(head.tree_size));
  put("root", head.root.slice(0, 32) + "…");
  put("head_time", new Date(head.time_ms).toLocaleString("en-GB"));
  const first = Math.max(0, size - SETTLEMENTS_SHOWN);
  for (const index of [...shown.keys()]) if (index < first) shown.delete(index);
  for (let index = first; index < size; index++) {
    if (!shown.has(index)) shown.set(index, await get("/v1/log/entries/" + index));
  }
  if (size > 0) {
    const newestFirst = [...shown.values()].sort((a, b) => b.index - a.index);
    document.getElementById("settlements").replaceChildren(...newestFirst.map(row));
  }
}

async function poll() {
  const state = document.getElementById("state");
  try {
    const stats = await get("/v1/stats");
    showStats(stats);
    if (stats.tree_size !== treeSize) {
      await showLog(stats.tree_size);
      treeSize = stats.tree_size;
    }
    state.textContent = "live";
    state.className = "state good";
  } catch (error) {
    state.textContent = "not answering";
    state.className = "state bad";
  }
  setTimeout(poll, POLL_MS);
}

get("/v1/log/key").then((key) => put("log_key", key.log_public_key)).catch(() => put("log_key", "not known"));
poll();
