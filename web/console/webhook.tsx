import { useState } from 'preact/hooks';
import { answerTo } from '../shared/api';
import { announce } from '../shared/announce';
import { Problem } from '../shared/problem';
import { shownTime } from '../shared/time';
import { Outside, Value } from '../shared/value';
import { Confirm, Field, Title } from './parts';
import { go, Link } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, useLoaded } from './use-api';
import { DeliveriesSection } from './webhook-deliveries';
import { ReplaySection } from './webhook-replay';
import { Chosen, NewSecret, WebhookStatus, type Webhook } from './webhooks';

export function WebhookPage({ id }: { readonly id: string }) {
  const may = useMay();
  if (may('webhook.read')) return <Loaded id={id} />;
  return (
    <>
      <Title page="Webhook">Webhook</Title>
      <NotAllowed to="read webhooks" permission="webhook.read" />
    </>
  );
}

function Loaded({ id }: { readonly id: string }) {
  const { api } = useSession();
  const may = useMay();
  const { value, failure, reload } = useLoaded(
    () => answerTo(api.GET('/webhooks/{id}', { params: { path: { id } } })),
    [api, id],
    5_000,
  );
  const webhook = value?.data;
  return (
    <>
      <p>
        <Link to="/webhooks">All webhooks</Link>
      </p>
      <Title page="Webhook">{webhook ? <Outside text={webhook.url} /> : 'Webhook'}</Title>
      {failure && <Problem failure={failure} again={() => void reload()} />}
      {!webhook && !failure && <p>Reading …</p>}
      {webhook && (
        <>
          <Facts webhook={webhook} />
          {may('webhook.update') && <Changes webhook={webhook} onChanged={reload} />}
          {may('webhook.update') && <ReplaySection webhook={webhook} />}
          <DeliveriesSection id={id} />
          {may('webhook.delete') && <Remove webhook={webhook} />}
        </>
      )}
    </>
  );
}

function Facts({ webhook }: { readonly webhook: Webhook }) {
  return (
    <dl class="facts">
      <dt>Status</dt>
      <dd>
        <WebhookStatus webhook={webhook} />
      </dd>
      <dt>For</dt>
      <dd>{webhook.description === null ? '–' : <Outside text={webhook.description} />}</dd>
      <dt>Told of</dt>
      <dd>
        <Chosen webhook={webhook} />
      </dd>
      <dt>Id</dt>
      <dd>
        <Value text={webhook.id} />
      </dd>
      {webhook.old_secret_expires_at !== null && (
        <>
          <dt>Old secret</dt>
          <dd>signs beside the new one until {shownTime(webhook.old_secret_expires_at)}</dd>
        </>
      )}
    </dl>
  );
}

function Changes({ webhook, onChanged }: { readonly webhook: Webhook; readonly onChanged: () => Promise<void> }) {
  const { api } = useSession();
  const [url, setUrl] = useState(webhook.url);
  const [secret, setSecret] = useState<string>();
  const [asks, setAsks] = useState(false);
  const { run, failure, isBusy } = useAction();
  const params = { path: { id: webhook.id } };
  const change = (body: { readonly url?: string; readonly enabled?: boolean }, said: string): void =>
    void run(async () => {
      await answerTo(api.PATCH('/webhooks/{id}', { params, body }));
      announce(said);
      await onChanged();
    });
  const test = (): void =>
    void run(async () => {
      await answerTo(api.POST('/webhooks/{id}/test', { params }));
      announce('A test is being sent. It is among the deliveries.');
      await onChanged();
    });
  const rotate = (): void =>
    void run(async () => {
      const { data } = await answerTo(api.POST('/webhooks/{id}/rotate-secret', { params, body: {} }));
      setSecret(data.secret);
      announce('The new secret is made. Copy it now: it is not shown again.');
      await onChanged();
    });
  return (
    <section class="card stack" aria-labelledby="change">
      <h2 id="change">Change and test</h2>
      <form
        class="row"
        onSubmit={(event) => {
          event.preventDefault();
          change({ url: url.trim() }, 'Messages are sent there from now on.');
        }}
      >
        <Field id="url" label="Send to" required maxLength={2048} value={url} onValue={setUrl} />
        <button disabled={isBusy || url.trim() === webhook.url}>Save</button>
      </form>
      <div class="row">
        <button type="button" disabled={isBusy || !webhook.enabled} onClick={test}>
          Send a test
        </button>
        {webhook.enabled ? (
          <button
            type="button"
            disabled={isBusy}
            onClick={() => change({ enabled: false }, 'Nothing is sent to it any more.')}
          >
            Disable
          </button>
        ) : (
          <button
            type="button"
            class="main"
            disabled={isBusy}
            onClick={() => change({ enabled: true }, 'Messages are sent to it again.')}
          >
            Enable
          </button>
        )}
        <button type="button" disabled={isBusy} onClick={() => setAsks(true)}>
          Rotate the secret
        </button>
      </div>
      {!webhook.enabled && (
        <p class="quiet small">
          Enabled again, it gets what was waiting when it was disabled, and what happens from then on. A replay brings
          what happened between.
        </p>
      )}
      {failure && <Problem failure={failure} />}
      {secret !== undefined && <NewSecret secret={secret} />}
      {asks && (
        <Confirm title="Rotate the secret?" yes="Rotate it" isDanger={false} onYes={rotate} onNo={() => setAsks(false)}>
          <p>You get a new secret. The old one signs beside it for a day, so that your endpoint can change over.</p>
        </Confirm>
      )}
    </section>
  );
}

function Remove({ webhook }: { readonly webhook: Webhook }) {
  const { api } = useSession();
  const [asks, setAsks] = useState(false);
  const { run, failure, isBusy } = useAction();
  const remove = (): void =>
    void run(async () => {
      await answerTo(api.DELETE('/webhooks/{id}', { params: { path: { id: webhook.id } } }));
      announce('The webhook is deleted.');
      go('/webhooks', { replace: true });
    });
  return (
    <section class="card stack" aria-labelledby="remove">
      <h2 id="remove">Delete it</h2>
      {failure && <Problem failure={failure} />}
      <p>
        <button type="button" class="danger" disabled={isBusy} onClick={() => setAsks(true)}>
          Delete the webhook
        </button>
      </p>
      {asks && (
        <Confirm title="Delete the webhook?" yes="Delete it" onYes={remove} onNo={() => setAsks(false)}>
          <p>Nothing is sent to it any more, and its deliveries are gone. That cannot be undone.</p>
        </Confirm>
      )}
    </section>
  );
}
