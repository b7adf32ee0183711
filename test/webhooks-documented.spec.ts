import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { newSecret, signaturesOf, testType, webhookTypes } from '@app/webhooks';
import { python } from './support/judges';

const root = resolve(__dirname, '..');
/** It is where the libraries are found. */
const folder = join(root, 'test-results', `webhooks-${process.pid}`);
beforeAll(() => mkdirSync(folder, { recursive: true }));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Gives the code block of docs/webhooks.md in a language. */
function documented(language: string): string {
  const text = readFileSync(join(root, 'docs/webhooks.md'), 'utf8');
  const blocks = [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].filter(([, of]) => of === language);
  expect(blocks).toHaveLength(1);
  return blocks[0]![2]!;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((done) => probe.listen(0, '127.0.0.1', done));
  const { port } = probe.address() as AddressInfo;
  await new Promise<void>((done) => probe.close(() => done()));
  return port;
}

const body = JSON.stringify({ id: 'mdom_1/2', type: 'domain.verified', data: { team: 'Zoë' } });
const now = () => Math.floor(Date.now() / 1_000);

/** Sends a message to an endpoint as we do, with signatures by these secrets; gives the status of the answer. */
async function send(port: number, secrets: readonly string[], sent = body, timestamp = now()): Promise<number> {
  const headers = {
    'content-type': 'application/cloudevents+json',
    'webhook-id': 'mdom_1/2',
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signaturesOf(secrets, 'mdom_1/2', timestamp, body),
  };
  return (await fetch(`http://localhost:${port}/`, { method: 'POST', headers, body: sent })).status;
}

/** Waits until an endpoint answers. */
async function listening(port: number): Promise<void> {
  for (let left = 200; left > 0; left--) {
    if (await fetch(`http://localhost:${port}/`, { method: 'HEAD' }).catch(() => undefined)) return;
    await delay(50);
  }
  throw new Error(`Nothing listens on ${port}.`);
}

it('docs/webhooks.md says of each type when it is sent', () => {
  const text = readFileSync(join(root, 'docs/webhooks.md'), 'utf8');
  const rows = [...text.matchAll(/^\| (`[a-z_.]+`.*?) \| /gm)].map(([, types]) => types!);
  const types = rows.flatMap((row) => row.replaceAll('`', '').split(', ')).filter((type) => type.includes('.'));
  expect(types).toEqual([...webhookTypes, testType]);
});

const withPython = python ? it : it.skip;

it('the endpoint in Node that docs/webhooks.md shows takes what is ours, and refuses all else', async () => {
  writeFileSync(join(folder, 'endpoint.mjs'), documented('javascript'));
  await judge(process.execPath, join(folder, 'endpoint.mjs'));
});

withPython('so does the endpoint in Python', async () => {
  writeFileSync(join(folder, 'endpoint.py'), documented('python'));
  await judge(python!, join(folder, 'endpoint.py'));
});

async function judge(command: string, file: string): Promise<void> {
  const [port, own, other] = [await freePort(), newSecret(), newSecret()];
  let said = '';
  const endpoint: ChildProcess = spawn(command, [file], {
    env: { PATH: process.env.PATH, PORT: String(port), WEBHOOK_SECRET: own, PYTHONIOENCODING: 'utf8' },
  });
  endpoint.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  try {
    await listening(port);
    expect(await send(port, [own])).toBe(204);
    expect(await send(port, [other, own])).toBe(204);
    expect(said).toMatch(/^mdom_1\/2 domain\.verified .*Zoë/);
    expect(await send(port, [other])).toBe(401);
    expect(await send(port, [own], `${body} `)).toBe(401);
    expect(await send(port, [own], body, now() - 600)).toBe(401);
    expect(said.trim().split('\n')).toHaveLength(2);
  } finally {
    endpoint.kill();
  }
}
