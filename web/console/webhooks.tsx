import { useState } from 'preact/hooks';
import { answerTo, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { Badge } from '../shared/badge';
import { Copied } from '../shared/copy';
import { Problem } from '../shared/problem';
import { Outside, Value } from '../shared/value';
import { Field, List, Title } from './parts';
import { Link } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { useAction, useLoaded, usePages } from './use-api';
import { SignatureExample } from './webhook-signature';

export type Webhook = Schemas['WebhookSchema'];

type Type = Exclude<NonNullable<Schemas['CreateWebhookRequest']['event_types']>[number], '*' | 'sendmux.test'>;

/** What a webhook can be told of, with words for it. */
const types: Readonly<Record<Type, string>> = {
  'domain.created': 'A domain is added, with its records to place',
  'domain.verified': 'A domain is verified',
  'domain.lapsed': 'A record of a verified domain is gone or wrong',
  'domain.failed': 'A domain still fails in the next check',
  'domain.recovered': 'A domain that had failed is verified again',
  'domain.records_changed': 'Other records are to be placed',
  'domain.deleted': 'A domain is deleted',
  'mailbox.created': 'A mailbox is created',
  'mailbox.suspended': 'A mailbox is suspended',
  'mailbox.resumed': 'A mailbox is resumed',
  'mailbox.deleted': 'A mailbox is deleted',
};

export function WebhooksPage() {
  const may = useMay();
  return (
    <>
      <Title page="Webhooks">Webhooks</Title>
      {may('webhook.read') ? <Webhooks /> : <NotAllowed to="list webhooks" permission="webhook.read" />}
    </>
  );
}

/** Says whether messages are sent to a webhook, and why not. */
export function WebhookStatus({ webhook }: { readonly webhook: Webhook }) {
  const { enabled, failing, disabled_reason: reason } = webhook;
  if (enabled) return failing ? <Badge tone="wait" words="Failing" /> : <Badge tone="good" words="Enabled" />;
  if (reason === 'gone') return <Badge tone="bad" words="Disabled: it answered 410" />;
  if (reason === 'failing') return <Badge tone="bad" words="Disabled: it failed for five days" />;
  return <Badge tone="plain" words="Disabled" />;
}

/** Says what a webhook is told of. */
export function Chosen({ webhook }: { readonly webhook: Webhook }) {
  const { event_types: chosen, domains } = webhook;
  return (
    <>
      {chosen.includes('*') ? 'Everything' : <Outside text={chosen.join(', ')} />}
      {domains !== null && <> of {domains.length === 1 ? 'one domain' : `${domains.length} domains`}</>}
    </>
  );
}

/** Shows a secret that was just made. */
export function NewSecret({ secret }: { readonly secret: string }) {
  return (
    <div class="note good stack">
      <p>
        Your endpoint needs this secret to verify what it gets. Keep it where secrets are kept: it is not shown again.
      </p>
      <Copied text={secret} what="the secret">
        <Value text={secret} />
      </Copied>
    </div>
  );
}

function Webhooks() {
  const { api } = useSession();
  const may = useMay();
  const pages = usePages((cursor) => answerTo(api.GET('/webhooks', { params: { query: { cursor } } })), [api]);
  return (
    <>
      <p class="quiet">
        An endpoint of yours gets a signed message for each change of your domains and mailboxes, and what it has missed
        by a replay.
      </p>
      {may('webhook.create') && <Create onCreated={pages.reload} />}
      <List pages={pages} empty={<p class="note">There is no webhook yet.</p>}>
        {(webhooks) => (
          <table>
            <caption class="unseen">Webhooks, the newest first</caption>
            <thead>
              <tr>
                <th scope="col">Sent to</th>
                <th scope="col">For</th>
                <th scope="col">Told of</th>
                <th scope="col">Status</th>
              </tr>
            </thead>
            <tbody>
              {webhooks.map((webhook) => (
                <tr key={webhook.id}>
                  <th scope="row">
                    <Link to={`/webhooks/${webhook.id}`}>
                      <Outside text={webhook.url} />
                    </Link>
                  </th>
                  <td data-label="For">
                    {webhook.description === null ? '–' : <Outside text={webhook.description} />}
                  </td>
                  <td data-label="Told of">
                    <Chosen webhook={webhook} />
                  </td>
                  <td>
                    <WebhookStatus webhook={webhook} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </List>
      <SignatureExample />
    </>
  );
}

function Create({ onCreated }: { readonly onCreated: () => Promise<void> }) {
  const { api } = useSession();
  const [url, setUrl] = useState('');
  const [description, setDescription] = useState('');
  const [isAll, setAll] = useState(true);
  const [chosen, setChosen] = useState<ReadonlySet<Type>>(new Set());
  const [domain, setDomain] = useState('');
  const [secret, setSecret] = useState<string>();
  const { run, failure, isBusy } = useAction();
  const create = (event: Event): void => {
    event.preventDefault();
    void run(async () => {
      const { data } = await answerTo(
        api.POST('/webhooks', {
          body: {
            url: url.trim(),
            event_types: isAll ? ['*'] : [...chosen],
            ...(description.trim() !== '' && { description: description.trim() }),
            ...(domain !== '' && { domains: [domain] }),
          },
        }),
      );
      setSecret(data.secret);
      setUrl('');
      setDescription('');
      announce('The webhook is made. Copy its secret now: it is not shown again.');
      await onCreated();
    });
  };
  const choose = (type: Type, isChosen: boolean): void => {
    const next = new Set(chosen);
    if (isChosen) next.add(type);
    else next.delete(type);
    setChosen(next);
  };
  return (
    <>
      <form class="card stack" onSubmit={create}>
        <h2>New webhook</h2>
        <div class="row">
          <Field
            id="webhook-url"
            label="Send to"
            hint="An https:// URL of a server on the public Internet."
            required
            maxLength={2048}
            value={url}
            onValue={setUrl}
          />
          <Field
            id="webhook-description"
            label="What it is for"
            hint="For you to remember."
            maxLength={255}
            value={description}
            onValue={setDescription}
          />
          <DomainChoice value={domain} onValue={setDomain} />
        </div>
        <div class="choice">
          <input
            id="webhook-all"
            type="checkbox"
            checked={isAll}
            onChange={({ currentTarget }) => setAll(currentTarget.checked)}
          />
          <label for="webhook-all">Tell of everything, also of what is added later</label>
        </div>
        {!isAll && (
          <fieldset>
            <legend>Tell of</legend>
            {(Object.keys(types) as Type[]).map((type) => (
              <div key={type} class="choice">
                <input
                  id={`webhook-${type}`}
                  type="checkbox"
                  checked={chosen.has(type)}
                  onChange={({ currentTarget }) => choose(type, currentTarget.checked)}
                />
                <label for={`webhook-${type}`}>
                  {types[type]} <span class="value small">{type}</span>
                </label>
              </div>
            ))}
            {chosen.size === 0 && <p class="quiet small">Choose at least one.</p>}
          </fieldset>
        )}
        <p>
          <button class="main" disabled={isBusy || (!isAll && chosen.size === 0)}>
            Create
          </button>
        </p>
      </form>
      {failure && <Problem failure={failure} />}
      {secret !== undefined && <NewSecret secret={secret} />}
    </>
  );
}

function DomainChoice({ value, onValue }: { readonly value: string; readonly onValue: (id: string) => void }) {
  const { api } = useSession();
  const may = useMay();
  const mayRead = may('domain.read');
  const domains = useLoaded(
    async () => (mayRead ? (await answerTo(api.GET('/domains', { params: { query: { limit: 100 } } }))).data : []),
    [api, mayRead],
  );
  if (!domains.value || domains.value.length === 0) return null;
  return (
    <div>
      <label for="webhook-domain">About</label>
      <select
        id="webhook-domain"
        aria-describedby="webhook-domain-hint"
        value={value}
        onChange={({ currentTarget }) => onValue(currentTarget.value)}
      >
        <option value="">all domains</option>
        {domains.value.map(({ id, domain }) => (
          <option key={id} value={id}>
            {domain}
          </option>
        ))}
      </select>
      <p id="webhook-domain-hint" class="quiet small">
        Mailboxes on it as well.
      </p>
    </div>
  );
}
