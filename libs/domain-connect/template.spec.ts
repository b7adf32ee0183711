import { groupsOf, template, variablesOf } from './template';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['a', 'b', 'c'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};

it('has a value for each variable of the template, and no other', () => {
  const used = [...JSON.stringify(template.records).matchAll(/%(\w+)%/g)].map(([, name]) => name);
  expect(Object.keys(variablesOf(domain, 'v=DMARC1; p=quarantine')!).sort()).toEqual([...new Set(used)].sort());
});

it.each([
  ['v=DMARC1; p=quarantine', 'p=quarantine'],
  ['v=DMARC1;p=reject;rua=mailto:a@x.net', 'p=reject;rua=mailto:a@x.net'],
])('carries the tags of %s', (record, dmarc) => expect(variablesOf(domain, record)).toMatchObject({ dmarc }));

it.each([
  'v=DMARC1',
  'v=DMARC1; ',
  'p=quarantine',
  'v=DMARC1; p=none; x=%team%',
  'v=DMARC1; p=none; x=\\226\\128',
  'v=DMARC1; p=none; x=\u00fc',
  `v=DMARC1; p=none; rua=${'x'.repeat(400)}`,
])('carries nothing of %j', (record) => expect(variablesOf(domain, record)).toBeUndefined());

it('carries nothing of a domain with other DKIM records than three', () => {
  for (const dkimTokens of [[], ['a', 'b'], ['a', 'b', 'c', 'd']])
    expect(variablesOf({ ...domain, dkimTokens }, 'v=DMARC1; p=quarantine')).toBeUndefined();
});

it('leaves the MX of a domain that only sends', () => {
  const types = (mode?: 'send_only') =>
    template.records
      .filter(({ groupId }) => groupsOf({ mode }).includes(groupId))
      .map(({ type, host }) => `${type} ${host}`);
  expect(types()).toHaveLength(template.records.length);
  expect(types('send_only')).not.toContain('MX @');
  expect(types('send_only')).toHaveLength(template.records.length - 1);
});
