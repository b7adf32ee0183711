import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { newApiKey, newInvitationToken, newSessionToken, newSetupToken } from '@app/runtime';

const root = resolve(__dirname, '..');

/**
 * What a secret looks like, of the formats that have a mark of their own: ours, those of the counterparts that we speak
 * to, and those of the places where such a repository is built and published. Whatever else is a password has no form,
 * and is not found by this.
 */
const formats: Record<string, RegExp> = {
  'a key or token of ours': /smx_[a-z]+_[0-9a-z]{42}(?![0-9a-z])/g,
  'a secret of a webhook': /whsec_[A-Za-z0-9+/]{32,}/g,
  'a private key': /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{16}/g,
  'a key of AWS': /(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Z0-9])/g,
  'a secret of AWS': /(?:aws_)?secret_access_key["' ]{0,3}[=:]["' ]{0,3}[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])/gi,
  'a token of GitHub': /(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})/g,
  'a token of npm': /npm_[A-Za-z0-9]{36}(?![A-Za-z0-9])/g,
  'a token of GitLab': /glpat-[A-Za-z0-9_-]{20}/g,
  'a token of PyPI': /pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50}/g,
  'a token of Slack': /xox[abprs]-[A-Za-z0-9-]{20,}/g,
  'a key of Google': /AIza[A-Za-z0-9_-]{35}/g,
};

/** What has the form of a secret and is none. */
const isExample = (text: string): boolean =>
  // Examples of documents repeat one character.
  /(.)\1{30}/.test(text) ||
  // The example of the specification of Standard Webhooks.
  text === 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

/** Names the secrets in a text; never the secrets themselves. */
function secretsIn(where: string, text: string): string[] {
  return Object.entries(formats).flatMap(([what, form]) =>
    [...text.matchAll(form)].filter(([found]) => !isExample(found)).map(() => `${where}: ${what}`),
  );
}

/** Gives every object of a history that has text: the content of files as it ever was, commits and tags. */
async function* objectsOf(repository: string): AsyncGenerator<readonly [name: string, content: Buffer]> {
  const git = (args: string[], stdin: 'ignore' | 'pipe') =>
    spawn('git', args, { cwd: repository, stdio: [stdin, 'pipe', 'inherit'] });
  const list = git(['rev-list', '--objects', '--no-object-names', 'HEAD', '--tags'], 'ignore');
  const cat = git(['cat-file', '--batch', '--buffer'], 'pipe');
  list.stdout!.pipe(cat.stdin!);
  const ended = Promise.all([once(list, 'close'), once(cat, 'close')]);
  let held: Buffer[] = [];
  let length = 0;
  let wanted: { readonly head: string; readonly octets: number } | undefined;
  for await (const chunk of cat.stdout as AsyncIterable<Buffer>) {
    held.push(chunk);
    length += chunk.length;
    if (wanted && length < wanted.octets) continue;
    let rest = Buffer.concat(held);
    for (;;) {
      if (!wanted) {
        const end = rest.indexOf(10);
        if (end < 0) break;
        const head = rest.toString('latin1', 0, end);
        wanted = { head, octets: end + 1 + Number(head.split(' ')[2]) + 1 };
      }
      if (rest.length < wanted.octets) break;
      const [name, type] = wanted.head.split(' ') as [string, string];
      if (type !== 'tree') yield [`${type} ${name}`, rest.subarray(wanted.head.length + 1, wanted.octets - 1)];
      rest = rest.subarray(wanted.octets);
      wanted = undefined;
    }
    [held, length] = [[rest], rest.length];
  }
  const statuses = await ended;
  if (statuses.some(([status]) => status !== 0)) throw new Error('git has not given the whole history.');
}

async function secretsInHistory(repository: string): Promise<{ objects: number; secrets: string[] }> {
  let objects = 0;
  const secrets: string[] = [];
  for await (const [name, content] of objectsOf(repository)) {
    objects++;
    secrets.push(...secretsIn(name, content.toString('latin1')));
  }
  return { objects, secrets };
}

it('no file has a secret', () => {
  const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  })
    .split('\0')
    .filter((name) => name !== '' && existsSync(join(root, name)) && statSync(join(root, name)).isFile());
  expect(files.length).toBeGreaterThan(500);
  expect(files.flatMap((name) => secretsIn(name, readFileSync(join(root, name), 'latin1')))).toEqual([]);
});

it('the history has none, in no file as it ever was, and in no message', async () => {
  const { objects, secrets } = await secretsInHistory(root);
  expect(objects).toBeGreaterThan(500);
  expect(secrets).toEqual([]);
});

describe('a secret is found', () => {
  const letters = (count: number) => randomBytes(count).toString('hex').slice(0, count);
  const planted: [what: string, secret: string][] = [
    ['a key or token of ours', newApiKey()],
    ['a key or token of ours', newSessionToken()],
    ['a key or token of ours', newSetupToken()],
    ['a key or token of ours', newInvitationToken()],
    ['a secret of a webhook', `whsec_${randomBytes(24).toString('base64')}`],
    ['a private key', `-----BEGIN ${'EC '}PRIVATE KEY-----\n${letters(64)}`],
    ['a private key', `-----BEGIN ${''}PRIVATE KEY-----\r\n${letters(64)}`],
    ['a key of AWS', `AKIA${'QWERTYUIOPASDFG2'}`],
    ['a secret of AWS', `AWS_SECRET_ACCESS_KEY=${letters(40)}`],
    ['a token of GitHub', `ghp_${letters(36)}`],
    ['a token of npm', `npm_${letters(36)}`],
    ['a token of GitLab', `glpat-${letters(20)}`],
    ['a token of PyPI', `pypi-AgEIcHlwaS5vcmc${letters(60)}`],
    ['a token of Slack', `xoxb-${letters(24)}`],
    ['a key of Google', `AIza${letters(35)}`],
  ];

  it.each(planted)('where there is %s', (what, secret) => {
    for (const text of [secret, `key = "${secret}"`, `<${secret}>\n`])
      expect(secretsIn('a file', text)).toEqual([`a file: ${what}`]);
  });

  it('in every format', () =>
    expect([...new Set(planted.map(([what]) => what))].sort()).toEqual(Object.keys(formats).sort()));

  it('in a commit that a later one has taken back, and in a message', async () => {
    const repository = mkdtempSync(join(tmpdir(), 'sendmux-history-'));
    const git = (...args: string[]) =>
      execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@example.com', ...args], {
        cwd: repository,
        stdio: 'pipe',
      });
    try {
      git('init', '-q');
      writeFileSync(join(repository, 'settings'), `${'x'.repeat(200_000)}\n${newApiKey()}\n`);
      git('add', '.');
      git('commit', '-qm', 'One');
      writeFileSync(join(repository, 'settings'), 'nothing\n');
      git('commit', '-qam', `Two ${newSetupToken()}`);
      const { objects, secrets } = await secretsInHistory(repository);
      expect(objects).toBe(4);
      expect(secrets.map((each) => each.replace(/ [0-9a-f]+:/, ':')).sort()).toEqual([
        'blob: a key or token of ours',
        'commit: a key or token of ours',
      ]);
    } finally {
      rmSync(repository, { recursive: true });
    }
  });
});
