import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { sample } from './support/sample';

const seed = Number(process.env.SEED ?? Date.now() % 1_000);
/** Cases of a run of the tests, in a usual one all of one part of the life; all of them are `make prove`. */
const cases = sample(8, 40);

it(`survives a fault at ${cases} messages that are chosen by a seed`, async () => {
  console.log(`SEED=${seed}`);
  const prove = join(__dirname, '../dist/test/proof/prove.js');
  const args = ['--enable-source-maps', prove, '--sample', String(cases), '--seed', String(seed), '--seconds', '60'];
  // What a fault leads to is waited for most of the time, so that one process does.
  if (!process.env.WHOLE) args.push('--one', '--workers', '1');
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => (said += text));
  const status = await new Promise((done) => child.once('close', done));
  const [, runs, reached, failed] =
    /(\d+) runs in \d+ s, the fault happened in (\d+), (\d+) failed/.exec(said)?.map(Number) ?? [];
  process.stderr.write(`${said.trim().split('\n').at(-1)}\n`);
  expect([status, failed === 0 ? '' : said]).toEqual([0, '']);
  // A message that did not come is no fault of the product, and a run in which nothing breaks proves nothing.
  expect(runs).toBeGreaterThan(0);
  expect(reached).toBeGreaterThan(runs! / 2);
});
