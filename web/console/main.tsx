import { render } from 'preact';
import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { Announcements } from '../shared/announce';
import { answerTo, apiClient, asFailure, type ApiFailure } from '../shared/api';
import { Problem } from '../shared/problem';
import { Outside } from '../shared/value';
import { AddDomainPage } from './add-domain';
import { ClaimsPage } from './claims';
import { DomainPage } from './domain';
import { DomainsPage } from './domains';
import { KeysPage } from './keys';
import { MailboxesPage } from './mailboxes';
import { OwnersPage } from './owners';
import { Title } from './parts';
import { go, Link, useAddress } from './router';
import { SessionContext, type Me, type Session } from './session';
import { SignIn } from './sign-in';
import { UsagePage } from './usage';
import { WebhookPage } from './webhook';
import { WebhooksPage } from './webhooks';

const api = apiClient();

const places = [
  ['/', 'Domains'],
  ['/mailboxes', 'Mailboxes'],
  ['/claims', 'Claims'],
  ['/webhooks', 'Webhooks'],
  ['/keys', 'API keys'],
  ['/owners', 'Owners'],
  ['/usage', 'Usage'],
] as const;

function Place({ path }: { readonly path: string }) {
  const [, id] = /^\/domains\/(mdom_[0-9a-z]{1,40})$/.exec(path) ?? [];
  if (id !== undefined) return <DomainPage key={id} id={id} />;
  const [, webhook] = /^\/webhooks\/(whk_[0-9a-z]{1,40})$/.exec(path) ?? [];
  if (webhook !== undefined) return <WebhookPage key={webhook} id={webhook} />;
  switch (path) {
    case '/':
      return <DomainsPage />;
    case '/domains/new':
      return <AddDomainPage />;
    case '/mailboxes':
      return <MailboxesPage />;
    case '/claims':
      return <ClaimsPage />;
    case '/webhooks':
      return <WebhooksPage />;
    case '/keys':
      return <KeysPage />;
    case '/owners':
      return <OwnersPage />;
    case '/usage':
      return <UsagePage />;
    default:
      return (
        <>
          <Title page="Nothing here">There is nothing here</Title>
          <p>
            <Link to="/">All domains</Link>
          </p>
        </>
      );
  }
}

/** `undefined` until it is known whether there is a session, `null` where there is none. */
type Known = Me | null | undefined;

function Console() {
  const { path } = useAddress();
  const [me, setMe] = useState<Known>();
  const [notice, setNotice] = useState<string>();
  const [failure, setFailure] = useState<ApiFailure>();

  const over = useCallback((why?: string) => {
    setMe(null);
    setNotice(why);
  }, []);
  const refused = useCallback(
    ({ status }: ApiFailure) => {
      if (status === 401) over('Your session has ended. Sign in again to go on where you were.');
    },
    [over],
  );
  const refresh = useCallback(async () => {
    try {
      setMe((await answerTo(api.GET('/session'))).data);
      setFailure(undefined);
    } catch (error) {
      const thrown = asFailure(error);
      if (thrown.status === 401) refused(thrown);
      else setFailure(thrown);
    }
  }, [refused]);
  useEffect(() => {
    // Whoever comes without a session was not signed out.
    void refresh().then(() => setNotice(undefined));
  }, [refresh]);
  const session = useMemo<Session | undefined>(
    () => (me ? { api, me, refresh, refused } : undefined),
    [me, refresh, refused],
  );
  const signOut = async (): Promise<void> => {
    await answerTo(api.DELETE('/session')).catch(() => undefined);
    go('/', { replace: true });
    over('You are signed out.');
  };
  return (
    <>
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <div>
          <strong>Sendmux</strong>
          {me && (
            <>
              <nav aria-label="Console">
                <ul>
                  {places.map(([to, words]) => (
                    <li key={to}>
                      <Link to={to} current={path === to || path.startsWith(to === '/' ? '/domains' : `${to}/`)}>
                        {words}
                      </Link>
                    </li>
                  ))}
                </ul>
              </nav>
              <span class="small quiet">
                <Outside text={me.team.name} />
              </span>
              <button type="button" onClick={() => void signOut()}>
                Sign out
              </button>
            </>
          )}
        </div>
      </header>
      <main id="main" tabIndex={-1}>
        {session ? (
          <SessionContext.Provider value={session}>
            <Place path={path} />
          </SessionContext.Provider>
        ) : me === null ? (
          <SignIn
            api={api}
            notice={notice}
            onSignedIn={(signedIn) => {
              setNotice(undefined);
              setMe(signedIn);
            }}
          />
        ) : failure ? (
          <>
            <Title page="Domains">Domains</Title>
            <Problem failure={failure} again={() => void refresh()} />
          </>
        ) : (
          <p>Reading …</p>
        )}
      </main>
      <Announcements />
    </>
  );
}

render(<Console />, document.getElementById('page')!);
