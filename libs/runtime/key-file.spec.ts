import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeKeyFile } from './key-file';

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'sendmux-key-'))));
afterEach(() => rmSync(directory, { recursive: true }));

const { privateKey } = generateKeyPairSync('ed25519');

it('a file with a key is its owner’s alone, also where others have made its draft before', () => {
  const file = join(directory, 'key.pem');
  writeFileSync(`${file}.${process.pid}`, 'x', { mode: 0o666 });
  expect([makeKeyFile(file, privateKey), makeKeyFile(file, privateKey)]).toEqual([true, false]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(createPrivateKey(readFileSync(file)).equals(privateKey)).toBe(true);
  expect(readdirSync(directory)).toEqual(['key.pem']);
});
