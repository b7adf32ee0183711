import { InstallationFull, type QuotaExceeded } from '@app/commands';
import { AllShardsClosed } from '../domains/open-shards';
import { Alarm, Counter } from '@app/runtime';
import { ApiError } from './api-error';

const refusals = new Counter({
  name: 'sendmux_quota_refusals_total',
  help: 'Creations that were refused because a team, or the installation, has as many as it may have',
  labelNames: ['kind', 'quota'],
});
// The counters start at zero, since an alarm on a rate needs a first value.
for (const quota of ['installation', 'shards', 'team']) refusals.inc({ kind: 'domains', quota }, 0);
refusals.inc({ kind: 'mailboxes', quota: 'team' }, 0);

const alarm = new Alarm('quotas');

/** Seconds after which an add may succeed, if an operator acts meanwhile. */
const fullForSeconds = 60;

/**
 * Counts a refusal, and makes its answer. A full installation, and shards of SES that are all closed, are no fault of
 * the customer, and an alarm tells an operator, before SES would refuse.
 */
export function quotaRefused(refusal: QuotaExceeded | InstallationFull | AllShardsClosed): ApiError {
  if (refusal instanceof AllShardsClosed) {
    refusals.inc({ kind: 'domains', quota: 'shards' });
    alarm.raise('shards_closed', `Adds are refused with 503. ${refusal.message}`);
  } else if (refusal instanceof InstallationFull) {
    refusals.inc({ kind: 'domains', quota: 'installation' });
    alarm.raise('domains_full', `Adds are refused with 503. ${refusal.message}`, { ...refusal.count });
  } else {
    refusals.inc({ kind: refusal.kind, quota: 'team' });
    return new ApiError('limit_exceeded', refusal.message, { count: refusal.count });
  }
  return new ApiError(
    'service_unavailable',
    'We cannot take any more domains just now. We know about it; please try again later.',
    { retryAfter: fullForSeconds },
  );
}
