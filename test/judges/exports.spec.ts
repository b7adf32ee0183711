import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { parseDomainName, rdata, zoneFile, type Expected, type ZoneFileFormat } from '@app/mail-records';
import { recordSets } from '../../libs/mail-records/records';
import { ask, casesOf, describeJudged, expectOnlyMeant } from '../support/judges';

type Records = readonly (readonly [name: string, type: string, ttl: number, values: readonly string[]])[];

const zone = 'acme.com';
const label = fc.oneof(
  fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/).filter((text) => !/^..--/.test(text)),
  fc.constantFrom('mail', '7', '12', '007', 'a-b', 'a--b', 'xn--mnchen-3ya', 'true', 'null', 'no', '0x1f', '1e3'),
  fc.constant('a'.repeat(63)),
);
const token = fc.oneof(fc.stringMatching(/^[a-z0-9]{32}$/), fc.stringMatching(/^[0-9]{1,3}[a-z]{1,3}[0-9]{0,3}$/));
const expected: fc.Arbitrary<Expected> = fc
  .record({
    labels: fc.oneof(fc.constant([]), fc.array(label, { minLength: 1, maxLength: 3 })),
    team: fc.stringMatching(/^team_[a-z0-9]{10}$/),
    dkimTokens: fc.uniqueArray(token, { minLength: 3, maxLength: 3 }),
    dkimZone: fc.constantFrom('dkim.amazonses.com', 'dkim.eu-west-1.amazonses.com'),
    sesRegion: fc.constantFrom('eu-west-1', 'us-east-1'),
  })
  .map(({ labels, ...more }) => ({ ...more, name: [...labels, zone].join('.') }))
  .filter(({ name }) => isAccepted(name));

function isAccepted(name: string): boolean {
  try {
    return parseDomainName(name).name === name;
  } catch {
    return false;
  }
}

/** Each name once, as in a zone. */
const domains = [...new Map(casesOf(expected, 400).map((domain) => [domain.name, domain])).values()];

const compilerIsInstalled = spawnSync('named-compilezone', ['-v']).status === 0;
const describeCompiled = compilerIsInstalled ? describe : describe.skip;

describeJudged('exports, loaded by the tools they are made for', () => {
  const load = (format: ZoneFileFormat, groups: readonly (readonly Expected[])[]) =>
    ask<{ records?: Records; error?: string }>(
      'exports.py',
      groups.map((group) => ({ format, zone, texts: group.map((domain) => zoneFile(format, domain, zone)) })),
    );

  it.each(['route53', 'octodns', 'terraform'] as const)('%s has every record, and no other', (format) => {
    const said = load(
      format,
      domains.map((domain) => [domain]),
    );
    const judged = domains.map((domain, i) => ({
      domain,
      ours: recordsOf([domain]),
      theirs: said[i]!.records,
      error: said[i]!.error,
    }));
    expectOnlyMeant(`Exports, ${format}`, judged.length, judged.filter(differ));
  });

  it('M8: Terraform takes the exports of several domains in one directory', () => {
    const groups = pairs(domains);
    const said = load('terraform', groups);
    const judged = groups.map((group, i) => ({
      group,
      ours: recordsOf(group),
      theirs: said[i]!.records,
      error: said[i]!.error,
    }));
    expectOnlyMeant('Exports, terraform directories', judged.length, judged.filter(differ));
  });
});

describeCompiled('exports, loaded by BIND', () => {
  it('have every record, and no other', () => {
    const texts = domains.map((domain) => zoneFile('bind', domain, zone));
    const judged = { ours: recordsOf(domains), theirs: compiled(texts.join('')) };
    expect(judged.theirs).toEqual(judged.ours);
    expectOnlyMeant('Exports, named-compilezone', domains.length, []);
  });

  it('keep every octet of a text', () => {
    const texts = casesOf(fc.uint8Array({ minLength: 1, maxLength: 700 }), 300).map((bytes) =>
      Buffer.from(bytes).toString('latin1'),
    );
    const records = compiled(texts.map((text, i) => `t${i}.${zone}. 300 IN TXT ${rdata('TXT', text)}\n`).join(''));
    const theirs = new Map(records.map(([name, , , values]) => [name, values[0]]));
    const judged = texts.map((text, i) => ({ ours: text, theirs: theirs.get(`t${i}.${zone}`) }));
    expectOnlyMeant('TXT values, named-compilezone', judged.length, judged.filter(differ));
  });
});

const differ = ({ ours, theirs }: { ours: unknown; theirs?: unknown }): boolean =>
  JSON.stringify(ours) !== JSON.stringify(theirs);

const byText = (a: unknown, b: unknown) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);

const recordsOf = (domains: readonly Expected[]): Records =>
  domains
    .flatMap((domain) => recordSets(domain).map(({ name, type, values }) => [name, type, 300, values] as const))
    .sort(byText);

const pairs = (domains: readonly Expected[]): Expected[][] =>
  Array.from({ length: Math.floor(domains.length / 2) }, (_, i) => [domains[2 * i]!, domains[2 * i + 1]!]);

/** What BIND reads in the lines of a zone, in the form of the API. */
function compiled(lines: string): Records {
  const head = `@ 300 IN SOA ns hostmaster 1 3600 600 86400 60\n@ 300 IN NS ns\nns 300 IN A 127.0.0.1\n`;
  const folder = mkdtempSync(join(tmpdir(), 'sendmux-zone-'));
  const file = join(folder, 'zone');
  writeFileSync(file, head + lines, 'latin1');
  const options = ['-q', '-i', 'none', '-k', 'fail', '-s', 'full', '-o', '-'];
  const { status, stdout, stderr } = spawnSync('named-compilezone', [...options, zone, file], {
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
  rmSync(folder, { recursive: true });
  if (status !== 0) throw new Error(`named-compilezone refuses the zone:\n${stderr}`);
  return stdout
    .split('\n')
    .flatMap((line) => {
      const match = /^(\S+)\.\s+(\d+)\s+IN\s+(MX|TXT|CNAME)\s+(.*)$/.exec(line);
      if (!match) return [];
      const [, name, ttl, type, value] = match as unknown as [string, string, string, string, string];
      return [[name, type, Number(ttl), [type === 'TXT' ? textOf(value) : value.replace(/\.$/, '')]] as const];
    })
    .sort(byText);
}

/** The octets of the character-strings of a master file. */
const textOf = (written: string): string =>
  [...written.matchAll(/"((?:[^"\\]|\\.)*)"/g)]
    .map(([, text]) =>
      text!.replace(/\\(\d{3}|.)/g, (_, what: string) =>
        what.length === 3 ? String.fromCharCode(Number(what)) : what,
      ),
    )
    .join('');
