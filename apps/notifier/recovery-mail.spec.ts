import { recoveryMail } from './recovery-mail';

it('says which domain has recovered, when that was found, and why the reader gets the mail', () => {
  const { subject, text, html } = recoveryMail({ name: 'mail.acme.com', at: '2026-11-23T23:30:00.000Z' });
  expect(subject).toBe('mail.acme.com is verified again');
  for (const part of [text, html])
    for (const words of ['mail.acme.com', '23 November 2026 at 23:30 UTC', 'because we told you'])
      expect(part).toContain(words);
});
