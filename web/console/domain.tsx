import { useEffect, useRef, useState } from 'preact/hooks';
import { answerTo, type Schemas } from '../shared/api';
import { announce } from '../shared/announce';
import { DomainStatus } from '../shared/badge';
import { PlanSteps, Warnings } from '../shared/plan';
import { Problem } from '../shared/problem';
import { inPlace, Records } from '../shared/records';
import { count } from '../shared/text';
import { countdown, secondsUntil, shownTime } from '../shared/time';
import { Outside, Prose, Value } from '../shared/value';
import { zoneFileOf, ZoneFiles } from '../shared/zone-files';
import { modeWords } from './domains';
import { HistorySection } from './history';
import { Confirm, Title } from './parts';
import { Link } from './router';
import { NotAllowed, useMay, useSession } from './session';
import { SenderRulesSection } from './sender-rules';
import { SetupLinksSection } from './setup-links';
import { useAction, useLoaded } from './use-api';

type Domain = Schemas['DomainSchema'];
type Verification = Schemas['VerificationSchema'];
type Removed = Schemas['DeletionSchema'];

/** What Amazon SES says of the DKIM records. */
const sesWords: Readonly<Record<Domain['ses_dkim_status'], string>> = {
  not_started: 'has not begun to look for the DKIM records',
  pending: 'has not found the DKIM records yet, and goes on looking',
  success: 'has found the DKIM records',
  failed: 'has given up looking for the DKIM records',
  temporary_failure: 'could not read the DKIM records just now, and tries again',
};

/** Milliseconds between two reads of a domain that is looked at. */
const everyMs = 5_000;

export function DomainPage({ id }: { readonly id: string }) {
  const { api } = useSession();
  const may = useMay();
  const [warnings, setWarnings] = useState<Schemas['PreflightFindingSchema'][]>([]);
  const [removed, setRemoved] = useState<{ readonly domain: string; readonly deletion: Removed }>();
  const { value, failure, reload } = useLoaded(
    () => answerTo(api.GET('/domains/{id}', { params: { path: { id } } })),
    [api, id],
    everyMs,
  );
  if (!may('domain.read')) return <NotAllowed to="read domains" permission="domain.read" />;
  if (removed) return <RemovedDomain {...removed} />;
  if (failure?.status === 404) return <NoDomain id={id} />;
  if (!value)
    return (
      <>
        <Title page="Domain">Domain</Title>
        {failure ? <Problem failure={failure} again={() => void reload()} /> : <p>Reading the domain …</p>}
      </>
    );
  const domain = value.data;
  const shown = domain.domain_unicode ?? domain.domain;
  return (
    <>
      <Title page={domain.domain}>
        <Outside text={shown} />
      </Title>
      {domain.domain_unicode !== undefined && (
        <p class="quiet">
          In the DNS: <Value text={domain.domain} />
        </p>
      )}
      {failure && <Problem failure={failure} again={() => void reload()} />}
      <Standing domain={domain} reload={reload} />
      <Warnings warnings={warnings} />
      {may('domain.verify') && !domain.deleting && <SetupLinksSection id={id} />}
      <PlanSection id={id} on={domain.records.map(({ status }) => status).join()} />
      <section class="stack" aria-labelledby="records">
        <h2 id="records">Records</h2>
        <Records records={domain.records} />
      </section>
      <section class="card" aria-labelledby="files">
        <h2 id="files">For tools</h2>
        <ZoneFiles
          read={async (format) =>
            zoneFileOf(
              await api.GET('/domains/{id}/zone-file', {
                params: { path: { id }, query: { format } },
                parseAs: 'text',
              }),
            )
          }
        />
      </section>
      {domain.mode === 'send_receive' && !domain.deleting && <SenderRulesSection id={id} />}
      <HistorySection id={id} />
      {domain.mode === 'send_only' && may('domain.create') && !domain.deleting && (
        <Upgrade domain={domain} reload={reload} onWarned={setWarnings} />
      )}
      {may('domain.delete') && (
        <Delete domain={domain} onRemoved={(deletion) => setRemoved({ domain: domain.domain, deletion })} />
      )}
    </>
  );
}

function Standing({ domain, reload }: { readonly domain: Domain; readonly reload: () => Promise<void> }) {
  const { api } = useSession();
  const may = useMay();
  const { run, failure, isBusy } = useAction();
  const [found, setFound] = useState<Verification>();
  const { verification_status: status } = domain;
  const verify = (): void =>
    void run(async () => {
      const { data } = await answerTo(api.POST('/domains/{id}/verify', { params: { path: { id: domain.id } } }));
      setFound(data);
      announce(data.status === 'verified' ? `${domain.domain} is verified.` : 'Checked. Something is left to do.');
      await reload();
    });
  return (
    <section
      class={`note stack ${status === 'verified' ? 'good' : status === 'failed' ? 'bad' : 'wait'}`}
      aria-labelledby="status"
    >
      <h2 id="status" class="row">
        <DomainStatus status={status} />
        {domain.deleting ? 'Is being deleted' : inPlace(domain.records)}
      </h2>
      <dl class="facts">
        <dt>Mode</dt>
        <dd>{modeWords(domain.mode)}</dd>
        <dt>Last check</dt>
        <dd>{domain.last_checked_at === null ? 'not yet' : shownTime(domain.last_checked_at)}</dd>
        <dt>Next check</dt>
        <dd>{domain.next_check_at === null ? 'not known' : shownTime(domain.next_check_at)}</dd>
        <dt>Amazon SES</dt>
        <dd>{sesWords[domain.ses_dkim_status]}</dd>
        <dt>Mailboxes</dt>
        <dd>
          {domain.mode === 'send_only' ? (
            'none: it does not receive'
          ) : (
            <Link to={`/mailboxes?domain_id=${domain.id}`}>{count(domain.mailbox_count, 'mailbox', 'mailboxes')}</Link>
          )}
        </dd>
      </dl>
      {may('domain.verify') && !domain.deleting && (
        <p>
          <button type="button" class="main" disabled={isBusy} onClick={verify}>
            {isBusy ? 'Checking …' : 'Verify now'}
          </button>
        </p>
      )}
      {failure && <Problem failure={failure} />}
      {found && <Found found={found} />}
    </section>
  );
}

/** Says what a verification has found, and what to do about it. */
function Found({ found }: { readonly found: Verification }) {
  const open = found.details.filter(({ outcome }) => outcome !== 'pass');
  const left = secondsUntil(found.retry_at, Date.parse(found.checked_at));
  return (
    <div class="stack">
      {open.length === 0 && <p>All checks pass.</p>}
      <ul class="plain stack">
        {open.map(({ check, message, hint }) => (
          <li key={check}>
            <p>
              <Prose text={message} />
            </p>
            {hint !== null && (
              <p class="small">
                <Prose text={hint} />
              </p>
            )}
          </li>
        ))}
      </ul>
      <Warnings warnings={found.details.flatMap(({ warnings }) => warnings)} />
      {left > 0 && <p class="small">What is changed now, the DNS will show in {countdown(left)} at the latest.</p>}
    </div>
  );
}

function PlanSection({ id, on }: { readonly id: string; readonly on: string }) {
  const { api } = useSession();
  const { value, failure, reload } = useLoaded(
    () => answerTo(api.GET('/domains/{id}/dns-plan', { params: { path: { id } } })),
    [api, id],
  );
  const seenOn = useRef(on);
  useEffect(() => {
    if (seenOn.current === on) return;
    seenOn.current = on;
    // The steps stay readable until the new ones are there.
    void reload();
  }, [on, reload]);
  return (
    <section class="card" aria-labelledby="plan">
      <h2 id="plan">What to change</h2>
      {failure && <Problem failure={failure} again={() => void reload()} />}
      {value ? <PlanSteps plan={value.data} /> : !failure && <p>Asking the DNS …</p>}
    </section>
  );
}

function Upgrade({
  domain,
  reload,
  onWarned,
}: {
  readonly domain: Domain;
  readonly reload: () => Promise<void>;
  readonly onWarned: (warnings: Schemas['PreflightFindingSchema'][]) => void;
}) {
  const { api } = useSession();
  const { run, failure, isBusy } = useAction();
  const [asks, setAsks] = useState(false);
  const upgrade = async (): Promise<void> => {
    await run(async () => {
      const params = { path: { id: domain.id } };
      const { data } = await answerTo(api.PATCH('/domains/{id}', { params, body: { mode: 'send_receive' } }));
      onWarned(data.warnings ?? []);
      announce(`${data.domain} may receive mail. Its MX is to be placed now.`);
      await reload();
    });
  };
  return (
    <section class="card" aria-labelledby="upgrade">
      <h2 id="upgrade">Receive mail too</h2>
      <p>It only sends now. Once it may receive, it is pending until its MX is in place, and never goes back.</p>
      {failure && <Problem failure={failure} />}
      <p>
        <button type="button" disabled={isBusy} onClick={() => setAsks(true)}>
          Let it receive mail
        </button>
      </p>
      {asks && (
        <Confirm
          title="Let it receive mail?"
          yes="Let it receive"
          isDanger={false}
          onYes={() => void upgrade()}
          onNo={() => setAsks(false)}
        >
          <p>
            Mail for <Value text={domain.domain} /> comes to us once its MX is placed. Whoever receives it now does not
            any more then.
          </p>
        </Confirm>
      )}
    </section>
  );
}

function Delete({ domain, onRemoved }: { readonly domain: Domain; readonly onRemoved: (deletion: Removed) => void }) {
  const { api, refresh } = useSession();
  const { run, failure, isBusy } = useAction();
  const [asks, setAsks] = useState(false);
  const remove = async (): Promise<void> => {
    await run(async () => {
      const { data } = await answerTo(api.DELETE('/domains/{id}', { params: { path: { id: domain.id } } }));
      announce(`${domain.domain} is deleted.`);
      void refresh();
      onRemoved(data);
    });
  };
  return (
    <section class="card" aria-labelledby="delete">
      <h2 id="delete">Delete</h2>
      {domain.mailbox_count > 0 ? (
        <p>
          It has {count(domain.mailbox_count, 'mailbox', 'mailboxes')}:{' '}
          <Link to={`/mailboxes?domain_id=${domain.id}`}>delete them</Link> first.
        </p>
      ) : (
        <p>It is removed from the mail server and from Amazon SES, and that is never undone.</p>
      )}
      {failure && <Problem failure={failure} />}
      <p>
        <button type="button" class="danger" disabled={isBusy} onClick={() => setAsks(true)}>
          {isBusy ? 'Deleting …' : 'Delete this domain'}
        </button>
      </p>
      {asks && (
        <Confirm
          title={`Delete ${domain.domain}?`}
          yes="Delete it"
          onYes={() => void remove()}
          onNo={() => setAsks(false)}
        >
          <p>No mail is sent or received with it any more. You will see which records to remove from the DNS.</p>
        </Confirm>
      )}
    </section>
  );
}

/** Shows what is left of a domain that has ended, or was never there: what happened to it. */
function NoDomain({ id }: { readonly id: string }) {
  return (
    <>
      <Title page="No domain">Your team has no such domain</Title>
      <p>
        It was deleted, has expired, went to another team, or never was. <Link to="/">All domains</Link>
      </p>
      <HistorySection id={id} />
    </>
  );
}

function RemovedDomain({ domain, deletion }: { readonly domain: string; readonly deletion: Removed }) {
  return (
    <>
      <Title page={`${domain} is deleted`}>
        <Outside text={domain} /> is deleted
      </Title>
      <section class="card" aria-labelledby="remove">
        <h2 id="remove">Remove from the DNS</h2>
        {deletion.records_to_remove.length === 0 ? (
          <p>Nothing of it is left to remove.</p>
        ) : (
          <table>
            <caption class="unseen">Records to remove</caption>
            <thead>
              <tr>
                <th scope="col">Name</th>
                <th scope="col">Type</th>
                <th scope="col">Value</th>
              </tr>
            </thead>
            <tbody>
              {deletion.records_to_remove.map(({ type, name, value }) => (
                <tr key={`${type} ${name} ${value}`}>
                  <th scope="row">
                    <Value text={name} />
                  </th>
                  <td data-label="Type">{type}</td>
                  <td data-label="Value">
                    <Value text={value} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <p>
          <Link to="/">All domains</Link>
        </p>
      </section>
    </>
  );
}
