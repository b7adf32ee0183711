import { invitationMail } from '@app/accounts';
import type { Finding } from '@app/mail-records';
import fc from 'fast-check';
import { hidden, hostileText } from '../../test/support/hostile-texts';
import { failureMail, type Failure } from './failure-mail';
import { teamFailureMail } from './team-failure-mail';
import { webhookMail } from './webhook-mail';

interface Mail {
  readonly subject: string;
  readonly text: string;
  readonly html?: string;
}

const at = '2026-03-01T10:00:00.000Z';
const failureWith = (text: string): Failure => {
  const finding: Finding = {
    check: 'spf',
    outcome: 'fail',
    code: 'spf_missing',
    message: text,
    name: `${text}.acme.com`,
    type: 'TXT',
    expected: text,
    observed: [text, text],
  };
  return { domainId: 'mdom_1', name: 'mail.acme.com', at, failing: [finding], unjudged: [finding] };
};

/** The mails that have text of others: of a zone, of a key that may create webhooks, of whoever names a team. */
const mails: Record<string, (text: string) => Mail> = {
  'a failure': (text) => failureMail(failureWith(text)),
  'failures of a team': (text) => teamFailureMail([failureWith(text), failureWith(text)]),
  'a webhook that is disabled': (description) =>
    webhookMail({ id: 'whk_1', url: 'https://hooks.acme.com/a', description, because: 'gone' }, at),
  'an invitation': (text) =>
    invitationMail(
      { team: 'team_1', teamName: text, email: text, token: 'smx_invite_x', expiresAt: new Date(0) },
      'https://app.example.com',
    ),
};

const tagsOf = (html: string) => html.match(/<[^>]*>/g);

it.each(Object.entries(mails))(
  'what others have written changes neither lines nor markup of a mail about %s',
  (_, of) => {
    const plain = of('x');
    fc.assert(
      fc.property(hostileText, (text) => {
        const { subject, text: body, html } = of(text || 'x');
        expect(subject).not.toMatch(hidden);
        const lines = body.split('\n');
        expect(lines).toHaveLength(plain.text.split('\n').length);
        for (const line of lines) expect(line).not.toMatch(hidden);
        if (html === undefined) return;
        expect(tagsOf(html)).toEqual(tagsOf(plain.html!));
        expect(html.replaceAll('\n', '')).not.toMatch(hidden);
      }),
    );
  },
);
