import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(__dirname, '../..');

export const docs = (): string => readFileSync(join(root, 'docs/clients.md'), 'utf8');

/** Gives the code block of docs/clients.md in a language; of several, the one with certain words. */
export function documented(language: string, words = ''): string {
  const blocks = [...docs().matchAll(/^```(\w+)\n([^]*?)^```$/gm)].flatMap(([, of, block]) =>
    of === language && block!.includes(words) ? block! : [],
  );
  if (blocks.length !== 1) throw new Error(`docs/clients.md has ${blocks.length} blocks of ${language} with ${words}`);
  return blocks[0]!;
}

/** Gives the requests of the tour of the README, and what it looks for in their answers, as a program. */
export function tourInTypeScript(): string {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  const calls = readme.matchAll(
    /^.*\bcall (?:-X (?<method>[A-Z]+) )?"?\$API(?<path>\/[^\s")?]*)(?:\?(?<query>[^\s")]*))?(?<rest>.*)$/gm,
  );
  const lines = [...calls].map(({ groups }) => {
    const { path, query, rest } = groups as { path: string; query?: string; rest: string };
    const body = /-d '(.*?)'/.exec(rest)?.[1];
    const method = groups!.method ?? (body ? 'POST' : 'GET');
    const options = [
      path.includes('$ID') && 'path: { id }',
      query && `query: { ${query.replace(/(\w+)=(\w+)/, "$1: '$2'")} }`,
    ].filter(Boolean);
    const init = [options.length > 0 && `params: { ${options.join(', ')} }`, body && `body: ${body}`].filter(Boolean);
    const request = `(await api.${method}('${path.replace('$ID', '{id}')}', { ${init.join(', ')} }))`;
    const [, field, value] = /grep '"(\w+)":"(\w+)"'/.exec(rest) ?? [];
    return field ? `${request}.data?.data.${field} === '${value}';` : `${request};`;
  });
  if (lines.length < 9) throw new Error(`The tour of the README has ${lines.length} requests`);
  return `import createClient from 'openapi-fetch';
import type { paths } from './sendmux.js';
const api = createClient<paths>({ baseUrl: '' });
const id = '';
${lines.join('\n')}
`;
}
