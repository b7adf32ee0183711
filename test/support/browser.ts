import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { seedOfRun } from './sample';

/** Where Debian and Ubuntu put Chromium. */
const executablePath = '/usr/bin/chromium';
const root = resolve(__dirname, '../..');
const load = createRequire(__filename);

export const chromiumIsInstalled = (): boolean => existsSync(executablePath);

/** Starts a Chromium without a window. */
export async function startChromium(): Promise<Browser> {
  const { chromium } = load('playwright-core') as typeof import('playwright-core');
  // The sandbox of Chromium needs rights that a container may not give; the pages here are ours.
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'] });
}

/** Keeps a picture of a page in test-results/pages. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = join(root, 'test-results/pages');
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name.replaceAll(' ', '-')}.png`), fullPage: true });
}

const looks = [
  { colorScheme: 'light', width: 1280 },
  { colorScheme: 'dark', width: 360 },
  { colorScheme: 'light', width: 360 },
  { colorScheme: 'dark', width: 1280 },
] as const;

let states = 0;

/** The looks of the next state: one in a usual run, another one than the state before it; all with `WHOLE=1`. */
function looksOfNext(): (typeof looks)[number][] {
  const state = states++;
  if (state === 0) console.log(`The looks of the pages: SEED=${seedOfRun}`);
  return process.env.WHOLE ? [...looks] : [looks[(seedOfRun + state) % looks.length]!];
}

const axe = readFileSync(load.resolve('axe-core/axe.min.js'), 'utf8');

interface AxeResults {
  readonly violations: {
    readonly id: string;
    readonly impact: string | null;
    readonly nodes: { readonly html: string; readonly failureSummary?: string }[];
  }[];
}

/**
 * Gives the serious and critical violations that axe-core finds on a page, and where it is wider than its window, light
 * or dark, on a phone or on a desk.
 */
export async function violations(page: Page, state: string): Promise<string[]> {
  const found: string[] = [];
  for (const { colorScheme, width } of looksOfNext()) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.setViewportSize({ width, height: 800 });
    const look = `${state}, ${colorScheme}, ${width}`;
    // A policy of the page that forbids scripts of others does not bind the debugger.
    const { violations: all } = await page.evaluate<AxeResults>(`${axe};axe.run({ resultTypes: ['violations'] })`);
    for (const { id, impact, nodes } of all)
      if (impact === 'serious' || impact === 'critical')
        found.push(
          `${look}: ${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`,
        );
    const wide = await page.evaluate<number>('document.documentElement.scrollWidth - innerWidth');
    if (wide > 0) found.push(`${look}: ${wide} pixels wider than the window`);
    await picture(page, `${state}-${colorScheme}-${width}`);
  }
  return found;
}
