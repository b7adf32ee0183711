import type { Finding } from '../findings';
import { dkimRecords } from '../records';
import type { DkimAnswer, Expected } from './expected';
import { fail, pass, undecided, type Said } from './finding';

const said: Readonly<Record<DkimAnswer, Said>> = {
  success: pass('ok', 'Amazon SES has seen the DKIM records.'),
  pending: fail('dkim_pending', 'Amazon SES has not seen the DKIM records yet. It looks by itself for up to 72 hours.'),
  failed: fail('dkim_failed', 'Amazon SES could not verify the DKIM records within 72 hours.'),
  temporary_failure: undecided(
    'dkim_temporary_failure',
    'Amazon SES could not read the DKIM records just now, and retries by itself.',
  ),
  not_started: fail(
    'dkim_not_started',
    'Amazon SES has not begun to look for the DKIM records. We have asked it to: try again in a few minutes.',
  ),
  unavailable: undecided(
    'ses_unavailable',
    'Amazon SES did not tell the DKIM status just now; nothing has changed. Try again in a minute.',
  ),
  identity_missing: undecided(
    'ses_identity_missing',
    'Amazon SES has lost this domain, which is ours to mend: it is being added there again. Try again in a few minutes.',
  ),
};

/** SES is the authority: it watches the CNAMEs itself, and a look-up of ours would only race with its own. */
export function judgeDkim(domain: Expected, answer: DkimAnswer): Finding {
  const expected = dkimRecords(domain)
    .map(({ name, value }) => `${name} CNAME ${value}`)
    .join('; ');
  const { outcome, code, message } = said[answer];
  return { check: 'dkim', type: 'CNAME', name: domain.name, expected, observed: [], outcome, code, message };
}
