import { useEffect } from 'preact/hooks';
import { count } from '../shared/text';
import { Outside } from '../shared/value';
import { Title } from './parts';
import { useSession } from './session';

const number = new Intl.NumberFormat('en-AU');
const words = { domains: 'domain', mailboxes: 'mailbox', webhooks: 'webhook' } as const;

export function UsagePage() {
  const { me, refresh } = useSession();
  useEffect(() => void refresh(), [refresh]);
  return (
    <>
      <Title page="Usage">Usage</Title>
      <section class="card">
        <h2>
          <Outside text={me.team.name} />
        </h2>
        {(['domains', 'mailboxes', 'webhooks'] as const).map((kind) => (
          <div key={kind}>
            <label for={kind}>
              {number.format(me.usage[kind])} of {count(me.limits[kind], words[kind], kind)}
            </label>
            <meter
              id={kind}
              class="narrow"
              min={0}
              max={me.limits[kind]}
              high={me.limits[kind] * 0.9}
              value={me.usage[kind]}
            />
          </div>
        ))}
        <p>{count(me.limits.requests_per_minute, 'request')} a minute with each key.</p>
        <p class="quiet">Support can raise these limits.</p>
      </section>
    </>
  );
}
