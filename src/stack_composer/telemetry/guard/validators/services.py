"""Names of services that hand out keys and tokens: the words beside a credential.

Facts, one word each, in lower case and without signs: what the service calls itself in
the names of settings ("eagleeyenetworks", "newrelic"). Add a name where a service gives
out keys that have no form of their own; one with a form has a rule of its own.
"""

from __future__ import annotations

from .shapes import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SERVICES: Final = frozenset(
    words("""
    1password ably abuseipdb abyssale accuweather adafruit adafruitio adobe adp adyen adzuna
    aeroworkflow aftership agora aha airbrake airbyte aircall airship airtable airvisual aiven
    akamai alchemy alconost alegra aletheiaapi algolia alibaba alienvault allsports alphavantage
    amadeus ambee amplitude anthropic anypoint anyscale apacta api2cart apideck apiflash
    apifonica apify apilayer apimatic apimetrics apitemplate apollo appcues appdynamics
    appfollow appointedd appoptics appsignal appsynergy apptivo appveyor appwrite argocd
    artifactory artsy asana assemblyai atera atlassian audd auth0 authress autodesk autoklose
    autopilot avaza aviationstack aws axiom axonaut aylien ayrshare azure azuredevops
    azurefunction azureopenai azuresearch azuresearchquery azurestorage backblaze bamboohr
    bandwidth bannerbear baremetrics basecamp baseten beamer beebole besnappy besttime
    betterstack betteruptime bigcommerce billomat binance bitbar bitbucket bitcoinaverage
    bitfinex bitly bitmex bitrise bitstamp bittrex bitwarden blackduck blazemeter blitapp
    blocknative blogger blynk bombbomb boostnote borgbase box braintree braintrust brandfetch
    braze brevo brightdata browserstack browshot bscscan buddyns budibase bugherd bugsnag
    buildkite bulbul bulksms buttercms bybit caflou calcom calendarific calendly calorieninja
    campayn canny cannyio capsulecrm captaindata carboninterface cashboard caspio censys
    centralstationcrm cerebras cexio chartmogul chatbot chatfule checio checkly checklyhq
    checkmarx checkout checkvist chroma cicero circleci clarifai clearbit clerk clickhelp
    clickhouse clicksend clicksendsms clickup cliengo clientary clinchpad clockify clockworksms
    clojars close closecrm cloudant cloudconvert cloudelements cloudflare cloudflareca
    cloudflareglobal cloudimage cloudinary cloudmersive cloudplan cloudsight cloudsmith cloverly
    cloze clustdoc cockroach cockroachdb coda codacy codeberg codeclimate codecov codemagic
    codequiry codeship cohere coinapi coinbase coinlayer coinlib collect2 column comet
    commercejs commercetools companyhub confluence confluent confluentkafka consul contentful
    contentstack conversiontools convertapi convertkit convier copper coralogix coreweave
    couchbase countrylayer courier coveralls craftmypdf crates cratesio crowdin crowdstrike
    cryptocompare currencycloud currencyfreaks currencylayer currencyscoop currentsapi
    customerguru customerio d7network dailyco dandelion dareboost dashlane databox databricks
    datadog datagov debounce deepai deepgram deepinfra deepseek deezer defectdojo
    definednetworking delighted demio deno dependencytrack deputy detectify detectlanguage dfuse
    dialpad diffbot diggernaut digitalocean discogs discord discordbot disqus ditto dnscheck
    dnsimple dockerhub docparser docsearch documo docusign doordash doppler dotdigital dovico
    drift drona dronahq drone droneci dropbox dropboxsign duffel duo duply dwolla dynalist
    dynatrace dyspatch eagleeye eagleeyenetworks easyinsight easypost ebay edamam edenai
    eightbyeight eightxeight elastic elasticemail elasticsearch elevenlabs enablex endorlabs
    enigma envoy equinix eraser etherscan ethplorer etsy eventbrite everhour evernote exa
    exchangerate exchangerateapi exchangerates exchangeratesapi exoscale exportsdk extractorapi
    facebook faceplusplus fastforex fastly fedex feedier fetchrss fibery figma fileio filestack
    finage financialmodelingprep findl finicity finnhub firebase firecrawl fireworks fireworksai
    fivetran fixer fixerio flagsmith flatio fleetbase flexport flickr flightapi flightlabs
    flightstats float flowflu flutterwave flyio fmfw formbucket formcraft formio formsite
    foursquare frame frameio freemius freshbooks freshdesk freshsales freshworks front fulcrum
    fullcontact fullstory fusionauth fxmarket gainsight gandi gcp geckoboard gemfury gemini
    gengo geoapify geocode geocodify geocodio geoipifi geonames getemail getemails getgeo
    getgeoapi getgist getresponse getsandbox getstream ghost giphy gitea gitee github githubapp
    githubenterprise gitlab gitter gladia glassnode gocanvas gocardless godaddy gogs google
    googlegemini googlemaps gorgias grafana graphcms graphhopper greenhouse greynoise groovehq
    groq growthbook gtmetrix guardianapi gumroad guru gusto gyazo happyscribe harness harvest
    hashicorp hashicorpvault hashicorpvaultauth hasura hcaptcha heap hellosign helpcrunch
    helpscout hereapi heroku hetzner hibp hightouch hive hiveage holiday holidayapi holistic
    honeybadger honeycomb hotjar html2pdf hubspot huggingface humanity hunter huobi hybiscus
    hypertrack ibm ibmcloud iconfinder iexapis iexcloud imagekit imagga imgix imgur impala
    influx influxdb infracost infura insightly instabot instagram instamojo instana intercom
    interseller intra42 intrinio invoiceocean ionic ip2location ipapi ipgeolocation ipinfo
    ipinfodb ipquality ipstack iterable jenkins jfrog jina jira jotform jumpcloud jupiterone
    juro kaggle kanban kanbantool karma karmacrm kayako keenio keeper keycdn keycloak kickbox
    klarna klaviyo klipfol klipfolio knapsackpro kontent kraken kucoin kylas lacework langchain
    langfuse langsmith languagelayer lark larksuite lastfm lastpass launchdarkly leadfeeder
    lemlist lemonsqueezy lendflow lessannoyingcrm lever lexigram librato lightstep linear
    linearapi linemessaging linenotify linkedin linkpreview linode liveagent livestorm loadmill
    lob locationiq logdna loggly loginradius logrocket logzio lokalise looker loyverse
    lunchmoney luno lusha lyft m3o madkudu magento magicbell magnetic mailboxlayer mailchimp
    mailcow mailerlite maileroo mailersend mailgun mailjet mailjetsms mailmodo mailsac mailslurp
    mailtrap mandrill manifest mapbox mapquest maptiler marketo marketstack mattermost mavenlink
    maxmind meaningcloud mediastack meistertask meraki mercadopago mesibo messagebird metaapi
    metabase metrilo mezmo microsoftteams milvus mindmeister miro mistral mistralai mite mixmax
    mixpanel mockaroo mollie monday monkeylearn moonclerk moosend moralis mrticktock mux
    myfreshworks myintervals namecheap nasdaqdatalink neon nethunt netlify netsuite neutrinoapi
    newrelic newrelicpersonal newsapi newscatcher nexmo nexus nftport ngc ngrok nhost nicereply
    nightfall nimble nomad nomic nordigen noticeable notion nozbe nozbeteams npm ns1 nuget
    numverify nutritionix nvapi nvidia nylas nytimes oanda octopusdeploy okta okx omdb omnisend
    onedesk onedrive onelogin onepagecrm onesignal onfleet oopspam openai opencagedata
    openexchangerates openrouter openrouteservice opensea openshift openuv openvpn openweather
    openweathermap opsgenie optimizely overloop ovh owasp owlbot owm oxylabs packagecloud pagar
    pagarme pagerduty pagertree pandadoc pandascore paperform paperspace papertrail paralleldots
    pardot parsehub parseur particleio partnerstack pastebin paydirtapp paymoapp paymongo paypal
    paystack pdflayer pdfshift pendo peopledata peopledatalabs pepipost percy perplexity pexels
    pganalyze photoroom phrase pinata pinecone pingdom pinterest pipedream pipedrive
    pivotaltracker pixabay plaid planetscale planhat planviewleankit planyo plivo podio pollsapi
    poloniex polygon polygonscan portainer positionstack postageapp postal postbacks posthog
    postman postmark powerbi powrbot prefect prismic privateai prodpad prospectcrm protocolsio
    proxycrawl proxyscrape pscale pubnub pulumi purestake pushbullet pusher pusherchannel
    pushover pyowm pypi pyxis qase qdrant qualaroo qualys quandl qubole quickbooks quicknode
    rabbitmq rackspace railway railwayapp ramp rapid7 rapidapi raven rawg raygun razorpay
    reachmail readme reallysimplesystems rebrandly recaptcha redash reddit redhat refiner render
    rendercom rentman repairshopr replicate replyio requestfinance resend restpack rev revampcrm
    ringcentral ritekit roaring rocketreach rockset rollbar rootly route4me rownd rubygems
    rudderstack runpod runrunit runscope saladcloud salesblink salescookie salesflare salesforce
    salesmate sanity sapling satismeter saucelabs scaleway scalingo scalr scoutapm scrapeowl
    scraperapi scraperbox scrapestack scrapfly scrapingant scrapingbee screenshotapi
    screenshotlayer screenshotone scrutinizerci securitytrails segment selectpdf semaphore
    sendbird sendgrid sendinblue sentinelone sentry serpapi serper serphouse serpstack
    settlemint sheety sherpadesk shipday shippo shipstation shodan shopify shortcut shotstack
    shutterstock sidekiq signable signalfx signalwire signaturit signoz signupgenius sigopt
    simfin simplelogin simplesat simplynoted simvoly sinch sirv siteleaf skrapp skrappio
    skybiometry slack smartsheet smartsheets smartystreets smooch smtp2go snapchat snipcart
    snowflake snyk socketlabs softlayer solarwindsobservability sonar sonarcloud sonarqube
    sonatype soundcloud sourcegraph sourcegraphcody sparkpost spectral spectralops speechtextai
    spinnaker splunk splunkobservability spoonacular sportsmonk spotify square squareapp
    squarespace squareup sslmate stability stabilityai stackhawk statsig statuscake statuspage
    statuspal stitchdata stockdata storecove stormboard stormglass storyblok storychief strapi
    strava streak stream stripe stripo stytch sugester sumo sumologic supabase supernotes
    surveyanyplace surveybot surveymonkey surveysparrow survicate swell swiftype tableau
    tailscale tallyfy tatum tavily taxjar teamcity teamgate teams teamwork teamworkcrm
    teamworkdesk teamworkspaces technicalanalysisapi tefter telegram telegrambot teletype telnyx
    tenable tenor terraform testingbot textmagic theoddsapi thingsboard thinkific thousandeyes
    thunderforest ticketmaster tickettailor tiingo tiktok timecamp timescale timezoneapi tines
    tly tmdb tmetric todoist together togetherai toggl toggltrack tokeet tomtom tradier
    transferwise travelpayouts travis travisci trello truenas tumblr turnstile twelvedata twilio
    twist twitch twitter twitterads tyntec typeform typetalk uber ubidots uclassify unifyid
    unleash unplugg unsplash upcdatabase upcloud uplead uploadcare upstash uptimerobot upwave
    urlbox urlscan userflow userstack usps vagrant vatlayer vault vbout veracode vercel verimail
    veriphone versioneye vertexai viber victorops viewneo vimeo virustotal visualcrossing
    voiceflow voicegain vonage voodoosms vouchery voyageai vpnapi vultr vyte walkscore wandb
    wasabi weatherapi weatherbit weatherstack weaviate web3storage webex webexbot webflow
    webscraper webscraping websitepulse wechat weightsandbiases wepay whatsapp whoxy wise wistia
    wit wiz woocommerce wordpress workday workos worksnaps workstack worldcoinindex worldweather
    wrike xai xero yandex yelp youneedabudget yousign youtrack youtube zapier zendesk zendeskapi
    zenkit zenkitapi zenrows zenscrape zenserp zeplin zeptomail zerobounce zerotier zilliz
    zipapi zipbooks zipcodeapi zipcodebase zoho zohocrm zonkafeedback zoom zoominfo zulip
    zulipchat zyte
    """)
)

# Alone these tell nothing: they are words of the language too, or telemetry has them
# beside commits, digests and ids every day.
COMMON: Final = frozenset(
    words("""
    agora aha airbyte anthropic apollo appveyor argocd artifactory aws azure beamer bitbucket
    bitrise blogger box buildkite bulbul canny cashboard chatbot checkout chroma cicero circleci
    clickhouse close cloudflare cloze cockroach cockroachdb codeberg codecov codemagic cohere
    column comet confluence consul convier copper couchbase courier crates cratesio dandelion
    databricks deno deputy digitalocean discord ditto dockerhub drift drone droneci dropbox duo
    elastic elasticsearch envoy eraser exa extractorapi facebook figma firebase fireworks fixer
    flightapi float frame front fulcrum gcp gemini geocode ghost gitea gitee github gitlab gogs
    google grafana groq guru harness harvest hashicorp heap hereapi heroku hive holiday holistic
    huggingface humanity hunter impala influx influxdb instagram ionic jenkins jfrog jira juro
    kaggle kanban karma keeper keycloak langchain langfuse langsmith lark lever linear linkedin
    linode liveagent looker magnetic manifest meraki metabase milvus mistral mite monday mux
    neon netlify nexus nightfall nimble nomad notion npm nuget nvidia openai opensea openshift
    pastebin percy phrase pinecone pinterest pipedream planyo polygon portainer postal postman
    prefect pulumi pypi qdrant rabbitmq railway ramp rapid7 raven readme redash reddit redhat
    render replicate rev roaring rootly rubygems salesforce sanity scaleway segment semaphore
    sentry shopify signable slack snowflake sonar sonarqube spectral spinnaker splunk spotify
    square stability strava streak stream stripe stripo sugester swell tableau teamcity teams
    telegram tenor terraform timescale together travis travisci twist twitch twitter ubidots
    unleash unplugg userflow vagrant vault vercel viber walkscore weatherbit weaviate whatsapp
    wise wit wiz workday youtube zoom
    """)
)
