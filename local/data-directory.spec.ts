import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writePrivateFile } from './data-directory';

let directory: string;
let umask: number;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sendmux-data-'));
  umask = process.umask(0);
});
afterEach(() => {
  process.umask(umask);
  rmSync(directory, { recursive: true });
});

it('a private file is its owner’s alone, also where there was another one, or others have made its draft', () => {
  const [file, elsewhere] = [join(directory, 'api-key'), join(directory, 'elsewhere')];
  writeFileSync(elsewhere, 'theirs', { mode: 0o666 });
  writeFileSync(file, 'old', { mode: 0o666 });
  symlinkSync(elsewhere, `${file}.new`);
  writePrivateFile(file, 'a\n');
  expect([readFileSync(file, 'utf8'), statSync(file).mode & 0o777]).toEqual(['a\n', 0o600]);
  expect(readFileSync(elsewhere, 'utf8')).toBe('theirs');
  writeFileSync(`${file}.new`, 'x', { mode: 0o666 });
  writePrivateFile(file, 'b\n');
  expect([readFileSync(file, 'utf8'), statSync(file).mode & 0o777]).toEqual(['b\n', 0o600]);
  expect(readdirSync(directory).sort()).toEqual(['api-key', 'elsewhere']);
});
