import type { Finding } from '@app/mail-records';
import { failureMail } from './failure-mail';

const mx: Finding = {
  check: 'mx',
  outcome: 'fail',
  code: 'mx_missing',
  message: 'Add an MX record at mail.acme.com with priority 10 and target mail.sendmux.ai.',
  name: 'mail.acme.com',
  type: 'MX',
  expected: '10 mail.sendmux.ai',
  observed: [],
};
const spf: Finding = {
  check: 'spf',
  outcome: 'fail',
  code: 'spf_multiple',
  message: 'Merge both SPF records into one.',
  name: 'mail.acme.com',
  type: 'TXT',
  expected: 'v=spf1 include:amazonses.com include:sendmux.ai ~all',
  observed: ['"v=spf1 -all"', '"v=spf1 include:amazonses.com include:sendmux.ai ~all"'],
};
const failure = {
  domainId: 'mdom_cl1',
  name: 'mail.acme.com',
  at: '2026-11-23T06:07:08.000Z',
  failing: [mx, spf],
};

it('names each failing record, what was expected, what was seen and what to do', () => {
  const { subject, text } = failureMail(failure);
  expect(subject).toBe('mail.acme.com is no longer verified: 2 records need your attention');
  expect(text).toBe(`Hello,

On 23 November 2026 at 06:07 UTC we checked the DNS records of mail.acme.com and found, for the second time in a row, that they do not match. The domain’s status is now “failed”.

2 records need your attention.

1. MX record at mail.acme.com
   Expected:   10 mail.sendmux.ai
   Seen:       no such record
   What to do: Add an MX record at mail.acme.com with priority 10 and target mail.sendmux.ai.

2. TXT record at mail.acme.com
   Expected:   v=spf1 include:amazonses.com include:sendmux.ai ~all
   Seen:       "v=spf1 -all"
               "v=spf1 include:amazonses.com include:sendmux.ai ~all"
   What to do: Merge both SPF records into one.

We no longer check this domain on our own. Once you have mended the records, please ask us to verify it:

   POST /api/v1/domains/mdom_cl1/verify

A change in the DNS can take a few minutes to be seen. If it still fails then, the answer says why.

You receive this mail, once for this failure, because you are an owner of the team that added the domain.

Sendmux
`);
});

it('says the same in HTML, and loads nothing from anywhere', () => {
  const { html } = failureMail(failure);
  const words = html
    .replace(/<[^>]*>/g, ' ')
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCharCode(Number(code)))
    .replace(/\s+/g, ' ');
  for (const { expected, observed, message } of failure.failing)
    for (const part of [expected, message, ...observed]) expect(words).toContain(part);
  for (const part of ['MX record at mail.acme.com', '23 November 2026 at 06:07 UTC', '/domains/mdom_cl1/verify'])
    expect(words).toContain(part);
  expect(html).not.toMatch(/https?:|<img|<link|<script|url\(|src=|href=/i);
});

describe('a record that could not be judged', () => {
  const dkim: Finding = {
    check: 'dkim',
    outcome: 'indeterminate',
    code: 'dkim_temporary_failure',
    type: 'CNAME',
    message: 'Amazon SES could not look them up.',
    name: 'mail.acme.com',
    expected: 'x',
    observed: [],
  };
  const { subject, text, html } = failureMail({
    ...failure,
    failing: [mx],
    unjudged: [dkim, { ...spf, outcome: 'indeterminate' }],
  });

  it('is named, but not called wrong', () => {
    expect(subject).toContain('1 record needs');
    expect(text).toContain(`
   What to do: Add an MX record at mail.acme.com with priority 10 and target mail.sendmux.ai.

These could not be checked this time. We do not say that they are wrong: verifying the domain checks them again.

   DKIM records of mail.acme.com
   TXT record at mail.acme.com (SPF)

We no longer check this domain on our own.`);
  });

  it('is in the HTML too', () => {
    expect(html).toContain('could not be checked this time');
    expect(html).toContain('<li>DKIM records of mail.acme.com</li><li>TXT record at mail.acme.com (SPF)</li>');
  });

  it('is not mentioned when there is none', () => {
    expect(failureMail(failure).text).not.toContain('could not be checked');
    expect(failureMail(failure).html).not.toContain('<ul>');
  });
});

it('counts a single record in the singular', () => {
  expect(failureMail({ ...failure, failing: [mx] }).subject).toBe(
    'mail.acme.com is no longer verified: 1 record needs your attention',
  );
});

describe('records with hostile values', () => {
  const hostile = (observed: string) => failureMail({ ...failure, failing: [{ ...spf, observed: [observed] }] });

  it('are escaped in the HTML', () => {
    const { html } = hostile(`</code><script>alert("1")</script><a href='https://evil.example'>log in</a>&lt;`);
    expect(html).not.toMatch(/<script|<a /);
    expect(html).toContain('&#60;script&#62;alert(&#34;1&#34;)');
    expect(html).toContain('&#38;lt;');
  });

  it('can neither begin a new line nor change the direction of the text', () => {
    const { text, html } = hostile('v=spf1\r\n\r\nSendmux: send your password\u2028to\u202Eus\0');
    expect(text).toContain('v=spf1\\u{d}\\u{a}\\u{d}\\u{a}Sendmux: send your password\\u{2028}to\\u{202e}us\\u{0}\n');
    for (const part of [text, html]) expect(part.replaceAll('\n', '')).not.toMatch(/\p{Cc}|\p{Cf}|\u2028/u);
  });

  it('are cut, so that they cannot hide the rest', () => {
    const { text } = hostile('x'.repeat(60_000));
    expect(text.length).toBeLessThan(3_000);
    expect(text).toContain('… (60000 characters)');
  });
});

it('counts the records that decide, and names the others after them', () => {
  const mailFrom: Finding = { ...mx, check: 'mail_from_mx', name: 'bounce.mail.acme.com', decides: false };
  const { subject, text, html } = failureMail({ ...failure, failing: [mailFrom, mx] });
  expect(subject).toBe('mail.acme.com is no longer verified: 1 record needs your attention');
  expect(text).toMatch(
    /1 record needs[^]*1\. MX record at mail\.acme\.com\n[^]*be verified without these[^]*2\. MX record at bounce\.mail\.acme\.com/,
  );
  expect(html).toMatch(
    /MX record at mail\.acme\.com[^]*be verified without these[^]*MX record at bounce\.mail\.acme\.com/,
  );
  expect(failureMail(failure).html).not.toContain('be verified without these');
});

it('says from when on others may claim the name, where the ownership record is gone', () => {
  const { text, html } = failureMail({ ...failure, claimableFrom: '2026-11-29T18:07:08.000Z' });
  for (const form of [text, html])
    expect(form).toContain('From 29 November 2026 at 18:07 UTC on another team may claim mail.acme.com');
  expect(failureMail(failure).text).not.toContain('another team');
});
