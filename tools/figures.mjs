// Keeps the figures of `make bench` in bench/figures.json and in the table of bench/README.md, and compares new ones
// with them.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { resolve } from 'node:path';

const kept = resolve(import.meta.dirname, '../bench/figures.json');
const page = resolve(import.meta.dirname, '../bench/README.md');
const [begin, end] = ['<!-- figures -->', '<!-- end of figures -->'];

/** A ratio that is worse than the kept one by more than this part of it is a regression. */
const mostLoss = 0.2;

const rounded = (ratio) => Math.round(ratio * 1_000) / 1_000;

/** Gives the middle one of some numbers. */
export const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

/** Reads what is kept; nothing where no figure was kept yet. */
export function readKept(file = kept) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return { figures: [] };
    throw new Error(`${file} cannot be read: ${error.message}`, { cause: error });
  }
}

/**
 * Gives a line for each figure that is also kept, and the names of those that are worse by more than a fifth.
 *
 * @param figures as bench/figure.ts reports them: `name`, `rounds`, `better`.
 * @param before those that are kept.
 */
export function compared(figures, before) {
  const lines = [];
  const worse = [];
  for (const { name, rounds, better } of figures) {
    const known = before.find((figure) => figure.name === name);
    if (!known) continue;
    const [now, was] = [median(rounds), median(known.rounds)];
    const kept = better === 'higher' ? now / was : was / now;
    if (kept < 1 - mostLoss) worse.push(name);
    lines.push(`${kept < 1 - mostLoss ? 'WORSE' : '     '} ${now.toFixed(2)} (kept: ${was.toFixed(2)})  ${name}`);
  }
  return { lines, worse };
}

/** Gives the table of figures as Markdown. */
export function tableOf(figures) {
  const rows = figures.map(({ name, rounds, better, date, node, machine }) => {
    const sorted = [...rounds].sort((a, b) => a - b);
    const spread = `${sorted[0].toFixed(2)} to ${sorted.at(-1).toFixed(2)}`;
    return `| ${name} | ${median(rounds).toFixed(2)} | ${spread} | ${better} | ${date}, Node ${node}, ${machine} |`;
  });
  return ['| figure | ratio | each round | better is | measured |', '|---|---:|---:|---|---|', ...rows].join('\n');
}

/** Keeps figures in the place of those of the same names. */
export function keep(figures, now = new Date()) {
  const before = readKept().figures.filter(({ name }) => !figures.some((figure) => figure.name === name));
  const run = {
    date: now.toISOString().slice(0, 10),
    node: process.versions.node,
    machine: `${cpus().length} × ${cpus()[0]?.model}`,
  };
  const measured = figures.map(({ rounds, ...figure }) => ({ ...figure, rounds: rounds.map(rounded), ...run }));
  const all = [...before, ...measured].sort((a, b) => (a.name < b.name ? -1 : 1));
  writeFileSync(kept, `${JSON.stringify({ figures: all }, null, 2)}\n`);
  const text = readFileSync(page, 'utf8');
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${page} has no place for the table: ${begin} … ${end}`);
  writeFileSync(page, `${text.slice(0, from + begin.length)}\n\n${tableOf(all)}\n\n${text.slice(to)}`);
}
