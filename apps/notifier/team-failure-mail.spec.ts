import type { Failure } from './failure-mail';
import { teamFailureMail } from './team-failure-mail';

const failure = (i: number, at = '2026-11-23T06:07:08.000Z'): Failure => ({
  domainId: `mdom_${i}`,
  name: `d${String(i).padStart(3, '0')}.acme.com`,
  at,
  failing: [
    {
      check: 'mx',
      outcome: 'fail',
      code: 'mx_missing',
      message: 'Set MX 10 <here>.',
      type: 'MX',
      name: `d${i}.acme.com`,
      expected: '10 mail.sendmux.ai',
      observed: ['<script>'],
    },
  ],
});
const many = (count: number) => Array.from({ length: count }, (_, i) => failure(i));

it('names each domain with its records, by name, and how to have it verified', () => {
  const { subject, text, html } = teamFailureMail([failure(2, '2026-11-23T11:00:00.000Z'), failure(1)]);
  expect(subject).toBe('2 domains are no longer verified: d001.acme.com and others');
  expect(text).toContain('Between 23 November 2026 at 06:07 UTC and 23 November 2026 at 11:00 UTC');
  expect(text).toContain('those of 2 domains do not match');
  expect(text.indexOf('d001.acme.com')).toBeLessThan(text.indexOf('d002.acme.com'));
  expect(text).toContain('   - MX record at d1.acme.com: Set MX 10 <here>.\n   POST /api/v1/domains/mdom_1/verify');
  expect(html).toContain('Set MX 10 &#60;here&#62;.');
  expect(html).not.toContain('<script>');
});
it('leaves out the records that do not decide', () => {
  const [mx] = failure(1).failing;
  const beside = { ...mx!, check: 'mail_from_mx', name: 'bounce.d1.acme.com', decides: false as const };
  const { text, html } = teamFailureMail([{ ...failure(1), failing: [beside, mx!] }, failure(2)]);
  for (const body of [text, html]) {
    expect(body).toContain('MX record at d1.acme.com');
    expect(body).not.toContain('bounce.');
  }
});
it('says when it was, once, if it was at one time', () =>
  expect(teamFailureMail(many(2)).text).toContain('\nOn 23 November 2026 at 06:07 UTC we checked'));
it('stays readable, however many there are', () => {
  const { text } = teamFailureMail(many(1_000));
  expect(text).toContain('those of 1000 domains');
  expect(text).toContain('d049.acme.com\n   - MX');
  expect(text).toContain('Also failed: d050.acme.com, ');
  expect(text).toContain('d199.acme.com and 800 more.');
  expect(text.length).toBeLessThan(20_000);
});
