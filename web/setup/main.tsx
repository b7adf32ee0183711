import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { Announcements } from '../shared/announce';
import type { Api, Schemas } from '../shared/api';
import { Badge, DomainStatus } from '../shared/badge';
import { isPageAddress } from '../shared/names';
import { PlanSteps } from '../shared/plan';
import { Problem } from '../shared/problem';
import { inPlace, Records } from '../shared/records';
import { countdown, secondsUntil, shownTime } from '../shared/time';
import { Outside, Prose, Value, Values } from '../shared/value';
import { zoneFileOf, ZoneFiles } from '../shared/zone-files';
import { forgetToken, takeReturn, takeToken } from './token';
import { useSetup, type SetupState } from './use-setup';

type Setup = Schemas['SetupSchema'];

/** Gives the present in milliseconds, every second. */
function useNow(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function BadLink() {
  useEffect(() => {
    document.title = 'This link does not work – Sendmux';
  }, []);
  return (
    <div class="card">
      <h1>This link does not work</h1>
      <p>
        It has expired, was withdrawn, or is not whole. A link for setting up a domain is valid for some days, and ends
        when the domain is deleted.
      </p>
      <p>Ask whoever has sent it to you for a new one. If you copied it, copy all of it, up to its last character.</p>
    </div>
  );
}

/** Says where the domain stands, and looks again on demand. */
function Standing({ state, setup }: { readonly state: SetupState; readonly setup: Setup }) {
  const now = useNow();
  const { verification_status: status, retry_at: retryAt } = setup;
  const left = secondsUntil(retryAt, now);
  const isVerified = status === 'verified';
  return (
    <section
      class={`note stack ${isVerified ? 'good' : status === 'failed' ? 'bad' : 'wait'}`}
      aria-labelledby="status"
    >
      <h2 id="status" class="row">
        <DomainStatus status={status} />
        {isVerified ? 'Everything is in place. Nothing is left to do.' : inPlace(setup.records)}
      </h2>
      <p class="small">
        {setup.last_checked_at === null ? 'Not checked yet.' : `Last checked ${shownTime(setup.last_checked_at)}.`}{' '}
        {isVerified
          ? 'Leave the records in place: they are checked again and again.'
          : 'This page checks by itself while it is open.'}
      </p>
      {!isVerified && (
        <div class="row">
          <button
            type="button"
            class="main check"
            disabled={state.isChecking || left > 0}
            onClick={() => void state.check()}
          >
            {state.isChecking ? 'Checking …' : left > 0 ? `Check again in ${countdown(left)}` : 'Check now'}
          </button>
          {left > 0 && !state.isChecking && (
            <>
              <span class="small wide">Until then the DNS may still give the answers of before.</span>
              <button type="button" class="text" onClick={() => void state.check()}>
                Check anyway
              </button>
            </>
          )}
        </div>
      )}
    </section>
  );
}

function Host({ setup }: { readonly setup: Setup }) {
  const { dns_host: host, domain_connect: connect } = setup;
  return (
    <section class="card" aria-labelledby="host">
      <h2 id="host">Where to do it</h2>
      {connect && isPageAddress(connect.url) && (
        <>
          <p>
            <Outside text={connect.provider} /> can place all records for you: it shows what would change, and asks you
            first.
          </p>
          <p>
            <a class="button main" href={connect.url} rel="noopener noreferrer">
              Set it up at <Outside text={connect.provider} />
            </a>
          </p>
          <p class="quiet">Or place them by hand, by the steps below.</p>
        </>
      )}
      {!host || (host.name === null && host.nameservers.length === 0) ? (
        !connect && (
          <p>
            We cannot tell who hosts the DNS of this domain now. Most often it is the company where the domain was
            registered: sign in there, and look for “DNS” or “zone”.
          </p>
        )
      ) : (
        <>
          <p>
            {host.name === null ? (
              <>
                The DNS of <Value text={host.zone} /> is hosted by whoever runs these name servers: sign in there.
              </>
            ) : (
              <>
                <strong>
                  <Outside text={host.name} />
                </strong>{' '}
                hosts the DNS of <Value text={host.zone} />: sign in there.
              </>
            )}
          </p>
          {host.advice.length > 0 && (
            <ul class="bullets">
              {host.advice.map((line) => (
                <li key={line}>
                  <Prose text={line} />
                </li>
              ))}
            </ul>
          )}
          {host.nameservers.length > 0 && (
            <div>
              <p class="quiet small">Name servers</p>
              <Values values={host.nameservers} />
            </div>
          )}
        </>
      )}
    </section>
  );
}

function Domain({ state, setup }: { readonly state: SetupState; readonly setup: Setup }) {
  const { domain, domain_unicode: unicode, plan, dns_host: host, records, mode } = setup;
  const isDone = setup.verification_status === 'verified' && plan?.operations.every(({ action }) => action === 'keep');
  useEffect(() => {
    document.title = `${setup.verification_status === 'verified' ? '✓ ' : ''}${domain} – Sendmux`;
  }, [domain, setup.verification_status]);
  return (
    <>
      <div>
        <h1>
          Set up <Outside text={unicode ?? domain} /> for mail
        </h1>
        <p class="quiet">
          {unicode && (
            <>
              In the DNS: <Value text={domain} />.{' '}
            </>
          )}
          Whoever sent you this link uses Sendmux for the mail of this domain. For that, some records have to be in its
          DNS. {mode === 'send_only' ? 'It will send mail, and receive none here.' : 'It will send and receive mail.'}
        </p>
      </div>
      <Standing state={state} setup={setup} />
      {state.failure && <Problem failure={state.failure} again={() => void state.reload()} />}
      {!isDone && <Host setup={setup} />}
      <section class="card" aria-labelledby="plan">
        <h2 id="plan">What to change</h2>
        {plan ? (
          <PlanSteps plan={plan} />
        ) : (
          <>
            <p>The DNS gives no answer now, so we cannot tell the steps. The records that it needs are below.</p>
            <p>
              <button type="button" onClick={() => void state.reload()}>
                Ask again
              </button>
            </p>
          </>
        )}
      </section>
      <section class="stack" aria-labelledby="records">
        <h2 id="records">All records</h2>
        <Records records={records} isWhole={!plan} {...(host && { zone: host.zone })} />
      </section>
      <section class="card" aria-labelledby="files">
        <h2 id="files">For tools</h2>
        <Files api={state.api} />
      </section>
    </>
  );
}

function Files({ api }: { readonly api: Api }) {
  return (
    <ZoneFiles
      read={async (format) =>
        zoneFileOf(await api.GET('/setup/zone-file', { params: { query: { format } }, parseAs: 'text' }))
      }
    />
  );
}

function Link({ token, isBack }: { readonly token: string; readonly isBack: boolean }) {
  const state = useSetup(token, isBack);
  const isBad = state.failure?.status === 404 || state.failure?.status === 401;
  useEffect(() => {
    if (isBad) forgetToken();
  }, [isBad]);
  if (isBad) return <BadLink />;
  if (state.setup) return <Domain state={state} setup={state.setup} />;
  if (state.failure) return <Problem failure={state.failure} again={() => void state.reload()} />;
  return (
    <div>
      <h1>Set up a domain for mail</h1>
      <p>Reading the records …</p>
    </div>
  );
}

function Page() {
  const [isBack] = useState(takeReturn);
  const [token, setToken] = useState(takeToken);
  useEffect(() => {
    // Another link that is opened in the same tab changes nothing but the fragment.
    const changed = (): void => setToken(takeToken());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return (
    <>
      <header class="top">
        <div>
          <strong>Sendmux</strong>
          <Badge tone="plain" words="Domain setup" />
        </div>
      </header>
      <main>{token === undefined ? <BadLink /> : <Link key={token} token={token} isBack={isBack} />}</main>
      <footer>Whoever has this link can read these records and have them checked, and nothing else.</footer>
      <Announcements />
    </>
  );
}

render(<Page />, document.getElementById('page')!);
