import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '..');

/** The runner of the benches, with a bench that reports what it is told to, in a folder of its own. */
describe('the figures of `make bench`', () => {
  let folder: string;
  const figure = (name: string, better: 'higher' | 'lower', ...rounds: number[]) => ({ name, rounds, better });
  const run = (figures: readonly ReturnType<typeof figure>[], ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['tools/bench.mjs', 'told', ...args], {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, FIGURES: JSON.stringify(figures) },
    });
    return { status, said: stdout + stderr };
  };
  const written = (file: string) => readFileSync(join(folder, file), 'utf8');

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'figures-'));
    for (const name of ['tools', 'bench', 'dist/bench', 'dist/local'])
      mkdirSync(join(folder, name), { recursive: true });
    for (const name of ['tools/bench.mjs', 'tools/figures.mjs']) copyFileSync(join(root, name), join(folder, name));
    writeFileSync(join(folder, 'dist/local/leave-with-parent.js'), '');
    writeFileSync(
      join(folder, 'dist/bench/told.js'),
      'for (const figure of JSON.parse(process.env.FIGURES)) process.send({ figure });\nprocess.disconnect();',
    );
    writeFileSync(
      join(folder, 'bench/README.md'),
      '# Benches\n<!-- figures -->\nold\n<!-- end of figures -->\nThe end.\n',
    );
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('are kept with their spread, each in the place of the one of its name', () => {
    expect(run([figure('rate', 'higher', 0.9, 0.7, 0.8), figure('wait', 'lower', 9)], '--keep').status).toBe(0);
    expect(run([figure('wait', 'lower', 12, 10, 11)], '--keep').status).toBe(0);
    const page = written('bench/README.md');
    expect(page).toMatch(/\| rate \| 0\.80 \| 0\.70 to 0\.90 \| higher \|/);
    expect(page).toMatch(/\| wait \| 11\.00 \| 10\.00 to 12\.00 \| lower \|/);
    expect(page).not.toContain('old');
    expect(page).toMatch(/<!-- end of figures -->\nThe end\.\n$/);
    expect(JSON.parse(written('bench/figures.json'))).toMatchObject({ figures: [{ name: 'rate' }, { name: 'wait' }] });
  });

  it('fail the comparison where the median has lost more than a fifth', () => {
    run([figure('rate', 'higher', 0.9, 1, 2), figure('wait', 'lower', 9, 10, 30)], '--keep');
    const compared = (...figures: ReturnType<typeof figure>[]) => run(figures, '--compare');
    expect(compared(figure('rate', 'higher', 0.5, 0.81, 3), figure('wait', 'lower', 1, 12.4, 13)).status).toBe(0);
    expect(compared(figure('rate', 'higher', 5, 5, 5), figure('wait', 'lower', 1, 1, 1)).status).toBe(0);
    expect(compared(figure('rate', 'higher', 0.1, 0.79, 3))).toEqual({
      status: 1,
      said: expect.stringContaining('WORSE 0.79 (kept: 1.00)  rate\n1 of 1 are worse') as unknown,
    });
    expect(compared(figure('wait', 'lower', 1, 12.6, 13)).status).toBe(1);
    // One that is not kept is no regression, and nothing is kept by a comparison.
    expect(compared(figure('new', 'higher', 0.1)).said).toContain('none of these figures is kept');
    expect(written('bench/README.md')).not.toContain('new');
  });

  it('are not compared with a file that is not readable', () => {
    writeFileSync(join(folder, 'bench/figures.json'), '{');
    const { status, said } = run([figure('rate', 'higher', 1)], '--compare');
    expect(said).toContain('bench/figures.json cannot be read');
    expect(status).toBe(1);
  });
});
