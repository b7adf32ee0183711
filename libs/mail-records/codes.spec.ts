import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { domainModes, type Check } from './check';
import { checks } from './checks';

const sources = readdirSync(join(__dirname, 'checks'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('.spec.ts'))
  .map((file) => readFileSync(join(__dirname, 'checks', file), 'utf8'));
/** Words of the same form that are no codes: a check, a mode, and what SES says. */
const others = new Set<string>([
  ...checks.flatMap(({ name, requirement }: Check) => [name, requirement ?? []].flat()),
  ...domainModes,
  'temporary_failure',
  'not_started',
  'identity_missing',
  'host_not_found',
  'type_not_found',
  'invalid_value',
  'dns_server_error',
]);

it('docs/verification.md has every code that there is, and no other', () => {
  const said = sources.flatMap((text) => [...text.matchAll(/'([a-z0-9]+(?:_[a-z0-9]+)+)'/g)].map(([, code]) => code!));
  const text = readFileSync(resolve(__dirname, '../../docs/verification.md'), 'utf8');
  const tables = text.slice(text.indexOf('## Codes'));
  const documented = [...tables.matchAll(/^\| `([a-z0-9_]+)`/gm)].map(([, code]) => code!);
  expect([...documented].sort()).toEqual([...new Set(said.filter((code) => !others.has(code)))].sort());
});
